"""Writing a vector index: lists of near vectors, and how many of them a search has to look into."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.vectors.nprobe import Nprobe
from birdsearch.indexer.vectors.scan import scan
from birdsearch.indexer.vectors.snapshot import BLOCK, IndexSnapshot, Written, seal_snapshot, write_faiss

__all__ = ["EXACT_UP_TO", "training_rows", "write_index"]

# FAISS's Python wrappers take arrays and keywords where the signatures that type checkers see take pointers.
_faiss: Any = faiss

EXACT_UP_TO = 200_000
"""Number of vectors up to which a search looks at all; beyond, they are written in lists of near ones."""

# Lists for N vectors: `_LISTS` times sqrt(N). Centroids are trained anew once N has doubled or halved.
_LISTS, _GROWN = 4, 2
# Vectors that train a list, rounds of training, and other vectors that measure: half to choose, half to state.
_TRAINED, _ROUNDS, _MEASURED, _SEED = 40, 10, 2000, 1
# Neighbours for which nprobe is measured; a search for more looks at everything.
_NEIGHBOURS = (20, 50, 100, 200, 500)
# The recall that nprobe is chosen for on one half of the sample: a little above the 0.99 that it has to have on
# the other half.
_RECALL = 0.993
# Rows moved and queries measured at a time.
_ROWS, _QUERIES = 65_536, 500


class HeldVectors(Protocol):
    """Verified vectors at positions 0..N-1, of which the first `start` are those of a snapshot."""

    @property
    def dim(self) -> int:
        """Numbers in a vector."""

    @property
    def base(self) -> IndexSnapshot | None:
        """The snapshot, or None."""

    @property
    def start(self) -> int:
        """Vectors of the snapshot."""

    @property
    def view_ids(self) -> NDArray[np.int64]:
        """(M,) ids of the views that are held."""

    def positions(self, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (M,) positions of views."""

    def ids_at(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the (M,) ids of the views at positions."""

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (M, C) vectors at positions."""


def write_index(
    held: HeldVectors,
    path: Path,
    exact_up_to: int = EXACT_UP_TO,
    on_step: Callable[[], None] = lambda: None,
) -> Written:
    """Write the vectors that are held, in lists of near ones if they are many.

    Centroids are those of the snapshot that the vectors come from, unless their number has doubled or halved since.
    How far to look is measured anew every time.

    Args:
        held: Verified vectors.
        path: The file.
        exact_up_to: Number of vectors beyond which they are put into lists of near ones.
        on_step: Called now and then; what it raises ends the writing.

    Returns:
        What to register.

    Raises:
        OSError: It cannot be written.
    """
    live = held.positions(held.view_ids)
    ids = held.ids_at(live)
    order = np.argsort(ids, kind="stable")
    live, ids = live[order], ids[order]
    if len(ids) <= exact_up_to:
        centroids = np.zeros((-(-max(len(ids), 1) // BLOCK), held.dim), np.float32)
        _write(path, centroids, held, live, lambda rows, _: rows // BLOCK)
        return seal_snapshot(path, ids, lambda _: None)
    count = max(min(int(_LISTS * len(ids) ** 0.5), len(ids) // 4), 1)
    training, measuring = training_rows(ids, count)
    known = None if held.base is None else held.base.nprobe
    # In which list each is, -1 where that is still to be found out.
    numbers = np.full(len(live), -1, np.int64)
    if (
        held.base is not None
        and known is not None
        and len(ids) / _GROWN <= known.trained_on <= len(ids) * _GROWN
    ):
        centroids, trained_on = held.base.centroids, known.trained_on
        is_listed = live < held.start
        numbers[is_listed] = held.base.list_of[live[is_listed]]
    else:
        centroids, trained_on = _trained(held.take(live[training]), count), len(ids)
    nearest = _faiss.IndexFlatIP(held.dim)
    nearest.add(centroids)

    def key(rows: NDArray[np.int64], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        on_step()
        found = numbers[rows]
        is_new = found < 0
        if is_new.any():
            found[is_new] = nearest.assign(np.ascontiguousarray(vectors[is_new]), 1)[:, 0]
        return found

    _write(path, centroids, held, live, key)
    return seal_snapshot(path, ids, lambda base: _measured(base, measuring, trained_on, on_step))


def _write(
    path: Path, centroids: NDArray[np.float32], held: HeldVectors, live: NDArray[np.int64], key: Any
) -> None:
    """Have FAISS write vectors; `key` says in which list, given rows and vectors."""
    keys = np.empty(len(live), np.int64)
    for start in range(0, len(live), _ROWS):
        rows = np.arange(start, min(start + _ROWS, len(live)))
        keys[rows] = key(rows, held.take(live[rows]))
    quantizer = _faiss.IndexFlatIP(held.dim)
    quantizer.add(centroids)
    index = _faiss.IndexIVFFlat(quantizer, held.dim, len(centroids), faiss.METRIC_INNER_PRODUCT)
    index.is_trained = True
    # A list at a time and all at once, so that FAISS allots what it holds and no more.
    order = np.argsort(keys, kind="stable")
    ends = np.cumsum(np.bincount(keys, minlength=len(centroids)))
    at = _faiss.swig_ptr
    for number, rows in enumerate(np.split(order, ends[:-1])):
        vectors = np.ascontiguousarray(held.take(live[rows]))
        index.invlists.add_entries(number, len(rows), at(rows), at(vectors.view(np.uint8)))
    index.ntotal = len(live)
    # Where each vector is, so that it can be taken by its position.
    index.make_direct_map(True)
    write_faiss(index, path)
    del index
    _give_back_memory()


def _give_back_memory() -> None:
    """Have glibc return what was freed: it keeps pieces as small as a list, and next the file is mapped."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _trained(sample: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """Return (count, C) centroids by spherical k-means (Dhillon and Modha, Machine Learning 42, 2001)."""
    means = _faiss.Kmeans(
        sample.shape[1],
        count,
        niter=_ROUNDS,
        spherical=True,
        seed=_SEED,
        min_points_per_centroid=1,
        max_points_per_centroid=_TRAINED,
    )
    means.train(np.ascontiguousarray(sample))
    return np.asarray(means.centroids, dtype=np.float32)


def _measured(
    base: IndexSnapshot, sample: NDArray[np.int64], trained_on: int, on_step: Callable[[], None]
) -> Nprobe:
    """Return the nprobe table, chosen on half of a sample of positions, and its recall on the other half."""
    width = min(_NEIGHBOURS[-1], len(base) - 1) if len(sample) > 1 else 0
    wanted = tuple(k for k in _NEIGHBOURS if k <= width)
    # With nothing to measure by, every search looks at everything.
    if not wanted:
        return Nprobe(base.lists, (), (), 1.0, trained_on)
    needed = np.empty((len(sample), width), np.int32)
    every = np.arange(len(base))
    for start in range(0, len(sample), _QUERIES):
        on_step()
        own = sample[start : start + _QUERIES]
        queries = base.take(own)
        _, positions = scan(queries, every, base.take, width + 1)
        is_own = positions == own[:, None]
        # Where exact copies crowd the vector itself out, the last of them is left out in its stead.
        is_own[~is_own.any(axis=1), -1] = True
        numbers = base.list_of[positions[~is_own]].reshape(len(own), width)
        # (Q, L): how many lists have to be looked into until a list is.
        order = np.argsort(-(queries @ base.centroids.T), axis=1, kind="stable")
        reach = np.empty_like(order)
        np.put_along_axis(reach, order, np.arange(1, base.lists + 1)[None], axis=1)
        needed[start : start + len(own)] = np.take_along_axis(reach, numbers, axis=1)
    choosing, stating = needed[::2], needed[1::2]
    lists = [int(np.quantile(choosing[:, :k], _RECALL, method="higher")) for k in wanted]
    lists = np.maximum.accumulate(lists).tolist()
    recall = float((stating[:, : _NEIGHBOURS[0]] <= lists[0]).mean())
    return Nprobe(base.lists, wanted, tuple(lists), recall, trained_on)


def training_rows(view_ids: NDArray[np.int64], lists: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rising rows of the vectors that train centroids, and of others that measure recall.

    A hash of its id says what a vector is used for, so that those that measure did not train, even if the centroids
    are older and there were fewer vectors then.

    Args:
        view_ids: (N,) distinct ids.
        lists: L.
    """
    # The finaliser of splitmix64 (Steele et al., OOPSLA 2014); overflow is meant.
    keys = view_ids.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    drawn = np.argsort(keys ^ (keys >> np.uint64(31)), kind="stable")
    held_out = min(_MEASURED, len(drawn) // 4)
    return np.sort(drawn[held_out : held_out + _TRAINED * lists]), np.sort(drawn[:held_out])
