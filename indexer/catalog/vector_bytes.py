"""A stored vector as bytes: float32, little-endian, beside the crc32 of those bytes.

Every vector that is read from the catalog passes here, so that a damaged one is never taken for an answer.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["decode_vectors", "encode_vector", "vector_fault"]


def encode_vector(vector: ArrayLike) -> tuple[bytes, int]:
    """Return a vector as it is stored, and its checksum.

    Args:
        vector: (C,) numbers.

    Returns:
        Its bytes and their crc32.
    """
    content = np.ascontiguousarray(vector, dtype="<f4").tobytes()
    return content, zlib.crc32(content)


def decode_vectors(
    blobs: Sequence[object], checksums: Sequence[object], size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read stored vectors and verify each.

    Args:
        blobs: (N,) as stored.
        checksums: (N,) the crc32 stored beside each.
        size: C.

    Returns:
        (N, C) float32, and (N,) bool, which of them match their checksum, have C numbers and are finite; the others
        are zeros.
    """
    length = 4 * size
    is_sound = np.fromiter(
        (
            isinstance(blob, bytes) and len(blob) == length and zlib.crc32(blob) == checksum
            for blob, checksum in zip(blobs, checksums, strict=True)
        ),
        np.bool_,
        len(blobs),
    )
    empty = bytes(length)
    content = b"".join(
        blob if sound and isinstance(blob, bytes) else empty
        for blob, sound in zip(blobs, is_sound.tolist(), strict=True)
    )
    # (N * C,) -> (N, C)
    vectors = np.frombuffer(content, "<f4").astype(np.float32).reshape(len(blobs), size)
    is_sound &= np.isfinite(vectors).all(axis=1)
    vectors[~is_sound] = 0.0
    return vectors, is_sound


def vector_fault(blob: object, checksum: object, size: int) -> str | None:
    """Say what is wrong with a stored vector, or None.

    Args:
        blob: As stored.
        checksum: The crc32 stored beside it.
        size: C.
    """
    if not isinstance(blob, bytes):
        return "the stored vector is not made of bytes"
    if len(blob) != 4 * size:
        return f"the stored vector has {len(blob)} bytes instead of {4 * size}"
    if zlib.crc32(blob) != checksum:
        return "the stored vector does not match its checksum"
    vector = np.frombuffer(blob, dtype="<f4")
    if not np.isfinite(vector).all() or not vector.any():
        return "the stored vector is zero or not finite"
    return None
