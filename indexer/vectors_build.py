"""Writing a vector index: in the order of the ids, or list by list."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from birdsearch.indexer.vectors_file import write_snapshot
from birdsearch.indexer.vectors_held import HeldVectors
from birdsearch.indexer.vectors_lists import list_of, measured, trained, training_rows

__all__ = ["EXACT_UP_TO", "write_index"]

EXACT_UP_TO = 200_000
"""Up to so many vectors a search looks at all of them; beyond, they are written in lists."""

# Lists for N vectors: so many times sqrt(N). Centroids are trained anew once N has doubled or halved.
_LISTS, _GROWN = 4, 2
_SEED = 0
# Rows at a time, and in a block where there are no lists.
_ROWS = 8192


def write_index(held: HeldVectors, path: Path, exact_up_to: int = EXACT_UP_TO) -> str:
    """Write the vectors that are held, in lists if they are many.

    Centroids are those of the snapshot that the vectors come from, unless their number has doubled or halved since.
    How far to look is measured anew every time.

    Args:
        held: Verified vectors.
        path: The file.
        exact_up_to: Beyond so many vectors they are put into lists.

    Returns:
        SHA-256 of the file's head, as `birdsearch.indexer.vectors_file.write_snapshot`.

    Raises:
        OSError: It cannot be written.
    """
    live = np.arange(held.end) if held.live is None else held.live
    ids = held.ids_at(live)
    order = np.argsort(ids, kind="stable")
    live, ids = live[order], ids[order]
    if len(ids) <= exact_up_to:
        offsets = np.append(np.arange(0, len(ids), _ROWS), len(ids))
        return write_snapshot(path, ids, held.dim, offsets, lambda rows: held.take(live[rows]), None)
    count = max(min(int(_LISTS * len(ids) ** 0.5), len(ids) // 4), 1)
    training, measuring = training_rows(ids, count)
    known = None if held.base is None else held.base.lists
    if known is not None and len(ids) / _GROWN <= known.trained_on <= len(ids) * _GROWN:
        centroids, trained_on = known.centroids, known.trained_on
    else:
        centroids, trained_on = trained(held.take(live[training]), count, _SEED), len(ids)
    number = np.empty(len(ids), np.int64)
    for start in range(0, len(ids), _ROWS):
        rows = slice(start, start + _ROWS)
        number[rows] = list_of(held.take(live[rows]), centroids)
    # Within a list by id.
    order = np.argsort(number, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(number, minlength=len(centroids)))])
    sample = np.argsort(order)[measuring]
    return write_snapshot(
        path,
        ids[order],
        held.dim,
        offsets,
        lambda rows: held.take(live[order[rows]]),
        lambda vectors: measured(vectors, offsets, centroids, sample, trained_on),
    )
