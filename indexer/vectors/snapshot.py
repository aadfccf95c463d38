"""The file of a vector index: FAISS's inverted file, mapped, and verified list by list as it is used.

    a byte | FAISS's head: centroids, sizes, where each vector is | vectors and positions, list by list | view ids,
    checksums

FAISS's head leaves the vectors three bytes beside a multiple of four; with the byte before it, they can be read as
numbers where they lie.

FAISS trusts what it reads. So head and end are verified whole at every opening, against the SHA-256 that the
catalog has of them, before FAISS sees them. The lists are mapped read-only, so that several processes share one
copy of them; a list is verified against its checksum when it is first looked into.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogError
from birdsearch.indexer.vectors.faiss_threads import one_for_one
from birdsearch.indexer.vectors.nprobe import Nprobe

__all__ = [
    "BLOCK",
    "IndexSnapshot",
    "Written",
    "error_bound",
    "read_snapshot",
    "rows_of",
    "seal_snapshot",
    "write_faiss",
]

# FAISS's Python wrappers take arrays and keywords where the signatures that type checkers see take pointers.
_faiss: Any = faiss

BLOCK = 8192
"""Vectors in a list where a search looks at all of them."""
# Lists fetched beyond those asked for, to settle which are the nearest.
_SPARE = 8


@dataclass(frozen=True, slots=True)
class Written:
    """What the catalog has to know of a file.

    Attributes:
        sha256: What head and end hash to, hexadecimal.
        count: How many vectors it holds.
        nprobe: How it is searched; None if a search looks at everything.
    """

    sha256: str
    count: int
    nprobe: Nprobe | None


class IndexSnapshot:
    """Vectors on disk. A vector's position is its rank among the rising view ids.

    Attributes:
        name: The file's name.
        ids: (N,) int64 view ids, rising.
        nprobe: How many lists to look into; None if a search looks at everything.
    """

    def __init__(
        self,
        name: str,
        index: Any,
        ids: NDArray[np.int64],
        checksums: NDArray[np.uint32],
        nprobe: Nprobe | None,
    ) -> None:
        self.name, self.ids, self.nprobe = name, ids, nprobe
        self._index, self._checksums = index, checksums
        self._is_verified = np.zeros(len(checksums), bool)
        self._list_of: NDArray[np.int32] | None = None
        self._sizes: NDArray[np.int64] | None = None
        self._blocks: dict[int, NDArray[np.float32]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def lists(self) -> int:
        """How many lists there are."""
        return len(self._checksums)

    @property
    def centroids(self) -> NDArray[np.float32]:
        """(L, C) float32, unit-norm; zeros where a search looks at everything."""
        return rows_of(_faiss.downcast_index(self._index.quantizer))

    @property
    def list_of(self) -> NDArray[np.int32]:
        """(N,) int32: in which list each vector is."""
        if self._list_of is None:
            # Upper half: the list; lower half: the position in it.
            where = _faiss.vector_to_array(self._index.direct_map.array)
            self._list_of = (where >> 32).astype(np.int32)
        return self._list_of

    @property
    def sizes(self) -> NDArray[np.int64]:
        """(L,) int64: how many vectors are in each list."""
        if self._sizes is None:
            self._sizes = np.bincount(self.list_of, minlength=self.lists)
        return self._sizes

    def is_sound(self, lists: NDArray[np.int64] | None = None) -> bool:
        """Say whether lists, all if None, are what was written; each is read once."""
        asked = np.flatnonzero(~self._is_verified)
        if lists is not None and len(asked):
            asked = np.unique(lists[~self._is_verified[lists]])
        if len(asked):
            if not np.array_equal(_checksums(self._index, asked), self._checksums[asked]):
                return False
            self._is_verified[asked] = True
        return True

    def take(self, positions: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return vectors at positions, (n,) -> (n, C), of verified lists; a view if they are one run of a list."""
        if self._is_in_order and len(positions) > 1:
            first, last = int(positions[0]), int(positions[-1])
            is_run = last - first == len(positions) - 1 and bool((np.diff(positions) == 1).all())
            if is_run and first // BLOCK == last // BLOCK:
                block = self._block(first // BLOCK)
                if block.flags.aligned:
                    return block[first % BLOCK : last % BLOCK + 1]
        return np.asarray(self._index.reconstruct_batch(positions), dtype=np.float32)

    @cached_property
    def _is_in_order(self) -> bool:
        """Whether vectors lie in the order of their positions, a block in each list."""
        return not self.centroids.any()

    def _block(self, number: int) -> NDArray[np.float32]:
        """Return the (n, C) vectors of a list, in the mapping."""
        if number not in self._blocks:
            self._blocks[number] = np.asarray(_InMapping(self._index, number))
        return self._blocks[number]

    def nearest_lists(self, queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
        """Return the lists whose centroids are nearest, (Q, C) -> (Q, count) int64.

        FAISS's float32 cosines depend on how many queries there are. Where they cannot tell which list is the
        last, float64 ones do, so that a query looks into the same lists whatever others it is asked with.
        """
        if count >= self.lists:
            return np.tile(np.arange(self.lists), (len(queries), 1))
        centroids = self.centroids
        width = min(count + _SPARE, self.lists)
        with one_for_one(len(queries)):
            scores, lists = faiss.knn(queries, centroids, width, metric=faiss.METRIC_INNER_PRODUCT)
        slack = 2 * error_bound(centroids.shape[1])
        last = scores[:, count - 1]
        for row in np.flatnonzero(last - scores[:, count] <= slack):
            is_settled = scores[row, -1] < last[row] - slack
            among = np.sort(lists[row]) if is_settled else np.arange(self.lists)
            exactly = (centroids[among].astype(np.float64) * queries[row]).sum(axis=1)
            lists[row, :count] = among[np.argsort(-exactly, kind="stable")[:count]]
        return np.asarray(lists[:, :count], dtype=np.int64)

    def search(
        self,
        queries: NDArray[np.float32],
        fetch: int,
        lists: NDArray[np.int64],
        mask: NDArray[np.bool_] | None,
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the highest float32 inner products in some verified lists.

        Args:
            queries: (Q, C) float32.
            fetch: How many.
            lists: (Q, P) int64.
            mask: (N,) bool, which positions may be found; None for all.

        Returns:
            Scores (Q, fetch) and positions (Q, fetch), highest first; position -1 where there are no more.
        """
        scores = np.empty((len(queries), fetch), np.float32)
        positions = np.empty((len(queries), fetch), np.int64)
        queries, lists = np.ascontiguousarray(queries), np.ascontiguousarray(lists)
        selector = None if mask is None else _faiss.IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        parameters = _faiss.SearchParametersIVF(nprobe=lists.shape[1], sel=selector)
        # The wrapper of `search_preassigned` takes no parameters. Distances to centroids play no part.
        at = _faiss.swig_ptr
        unused = np.zeros(lists.shape, np.float32)
        with one_for_one(len(queries)):
            self._index.search_preassigned_c(
                len(queries),
                at(queries),
                fetch,
                at(lists),
                at(unused),
                at(scores),
                at(positions),
                False,
                parameters,
            )
        return scores, positions


class _InMapping:
    """What NumPy makes a read-only array of that keeps the mapping: the vectors of a list."""

    def __init__(self, index: Any, number: int) -> None:
        mapped = _lists_of(index)
        entry = mapped.lists.at(number)
        start = _faiss.rev_swig_ptr(mapped.ptr, mapped.totsize).ctypes.data + entry.offset
        self._index = index
        self.__array_interface__ = {
            "version": 3,
            "typestr": "<f4",
            "shape": (entry.size, index.d),
            "data": (start, True),
        }


def error_bound(dim: int) -> float:
    """Return how far a float32 inner product of two unit vectors may lie from the rounded exact one.

    Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., section 3.1.
    """
    unit = float(np.finfo(np.float32).eps) / 2
    # One more term for the final rounding, and room for norms that are 1 only to float32's precision.
    return 2 * (dim + 4) * unit


def read_snapshot(path: Path, written: Written, dim: int) -> IndexSnapshot:
    """Map a snapshot.

    Args:
        path: The file.
        written: What the catalog knows of it.
        dim: C.

    Returns:
        The snapshot; its head and end are verified, its lists are not yet.

    Raises:
        OSError: It is not there or cannot be read.
        CatalogError: It is not what was written.
    """
    count, nprobe = written.count, written.nprobe
    lists = -(-max(count, 1) // BLOCK) if nprobe is None else nprobe.count
    end_bytes, list_bytes = 8 * count + 4 * lists, count * (4 * dim + 8)
    with path.open("rb") as file:
        head_bytes = os.fstat(file.fileno()).st_size - list_bytes - end_bytes
        if head_bytes <= 0:
            raise CatalogError(f"it does not hold {count} vectors of {dim} dimensions")
        head = file.read(head_bytes)
        file.seek(list_bytes, os.SEEK_CUR)
        end = file.read()
    if hashlib.sha256(head + end).hexdigest() != written.sha256:
        raise CatalogError("its content is not what was written")
    ids = np.frombuffer(end, "<i8", count)
    return IndexSnapshot(path.name, _mapped(path), ids, np.frombuffer(end, "<u4", lists, 8 * count), nprobe)


def seal_snapshot(
    path: Path, ids: NDArray[np.int64], measure: Callable[[IndexSnapshot], Nprobe | None]
) -> Written:
    """Add what verifies it to an index that FAISS wrote, and have it on the disk.

    Args:
        path: The file.
        ids: (N,) int64, rising.
        measure: Given the snapshot, says how to search it.

    Returns:
        What the catalog has to know of it.

    Raises:
        OSError: It cannot be written.
    """
    index = _mapped(path)
    lists = np.arange(index.nlist)
    checksums = _checksums(index, lists)
    nprobe = measure(IndexSnapshot(path.name, index, ids, checksums, None))
    end = ids.astype("<i8").tobytes() + checksums.astype("<u4").tobytes()
    with path.open("r+b") as file:
        head = file.read(_lists_of(index).lists.at(0).offset)
        file.seek(0, os.SEEK_END)
        file.write(end)
        file.flush()
        os.fsync(file.fileno())
    return Written(hashlib.sha256(head + end).hexdigest(), len(ids), nprobe)


def write_faiss(index: Any, path: Path) -> None:
    """Write a FAISS index behind a byte; see above.

    Raises:
        OSError: It cannot be written.
    """
    try:
        writer = _faiss.FileIOWriter(str(path))
        writer(_faiss.swig_ptr(np.zeros(1, np.uint8)), 1, 1)
        _faiss.write_index(index, writer)
    except RuntimeError as error:
        raise OSError(f"FAISS cannot write it ({error})") from error


def _mapped(path: Path) -> Any:
    try:
        reader = _faiss.FileIOReader(str(path))
        reader(_faiss.swig_ptr(np.empty(1, np.uint8)), 1, 1)
        index = _faiss.read_index(reader, faiss.IO_FLAG_MMAP)
    except RuntimeError as error:
        raise OSError(f"{path.name}: FAISS cannot read it ({error})") from error
    # Threads that read ahead take longer than reading what is in memory.
    _lists_of(index).prefetch_nthread = 0
    return index


def _lists_of(index: Any) -> Any:
    return _faiss.downcast_InvertedLists(index.invlists)


def _checksums(index: Any, lists: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the CRC-32 of each list's vectors and positions, in FAISS's own mapping."""
    mapped = _lists_of(index)
    content = _faiss.rev_swig_ptr(mapped.ptr, mapped.totsize)
    found = np.empty(len(lists), np.uint32)
    for at, number in enumerate(lists.tolist()):
        entry = mapped.lists.at(number)
        found[at] = zlib.crc32(content[entry.offset : entry.offset + entry.size * (4 * index.d + 8)])
    return found


def rows_of(flat: Any) -> NDArray[np.float32]:
    """Return the vectors of a flat index, (N, C), valid as long as it is not added to."""
    if not flat.ntotal:
        return np.zeros((0, flat.d), np.float32)
    found = _faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
    return np.asarray(found, dtype=np.float32).reshape(flat.ntotal, flat.d)
