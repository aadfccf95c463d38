"""Perceptual hashes of pictures that are mirrored or turned, made from those of the pictures as they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdsearch.search.query.vote_groups import MIRROR

__all__ = ["turned_hashes"]


def turned_hashes(hashes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return what the perceptual hashes of pictures become when these are turned and mirrored.

    Mirroring flips the sign of the coefficients with an odd frequency in its direction, and transposing the picture
    transposes them. A bit says whether a coefficient is above the median, which is near but not at zero, so the
    hashes are those of the turned pictures up to a few bits.

    Args:
        hashes: (N,) uint64, of `birdsearch.model.images.decode.perceptual_hash`.

    Returns:
        (8, N) uint64; the first are the hashes themselves, the second those of mirrored pictures.
    """
    # (N,) -> (N, 8 bytes) -> (N, 8 rows, 8 columns)
    rows = np.unpackbits(hashes.astype(">u8").view(np.uint8).reshape(-1, 8), axis=1).reshape(-1, 8, 8)
    transposed = np.packbits(rows.transpose(0, 2, 1).reshape(-1, 64), axis=1)
    turned = np.ascontiguousarray(transposed).view(">u8").reshape(-1).astype(np.uint64)
    down = np.uint64(0xFF00FF00FF00FF00)
    return np.stack([each ^ mask for each in (hashes, turned) for mask in (0, MIRROR, down, MIRROR ^ down)])
