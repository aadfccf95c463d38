"""The file of a vector index: mapped rather than read, and verified block by block as it is used.

    magic, where the head begins, its length | padding to a page | vectors, block by block | head

The head (ids, blocks, a checksum of every block, centroids) is small and is verified whole at every opening,
against the SHA-256 that the catalog has of it. The vectors are mapped read-only, so that several processes share
one copy of them; a block is verified against its checksum when it is first looked at. So any content but the one
that was written is noticed before it is used.
"""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogError
from birdsearch.indexer.vectors_lists import Lists

__all__ = ["Snapshot", "read_snapshot", "write_snapshot"]

_MAGIC = b"birdvec1"
_PREFIX = struct.Struct("<8sQQ")
# Vectors begin on a page, so that they can be mapped.
_PAGE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """Vectors on disk.

    Attributes:
        name: The file's name.
        ids: (N,) int64 view ids, in the order of the vectors.
        vectors: (N, C) float32 unit-norm, mapped read-only; see `sound`.
        offsets: (B + 1,) int64: where each block begins, and N.
        checksums: (B,) uint32, CRC-32 of each block.
        lists: What the blocks are lists of; None if they are nothing but blocks.
    """

    name: str
    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    offsets: NDArray[np.int64]
    checksums: NDArray[np.uint32]
    lists: Lists | None

    def sound(self, block: int) -> bool:
        """Say whether a block of vectors is what was written."""
        rows = self.vectors[self.offsets[block] : self.offsets[block + 1]]
        return zlib.crc32(rows.data if len(rows) else b"") == int(self.checksums[block])


def write_snapshot(
    path: Path,
    ids: NDArray[np.int64],
    dim: int,
    offsets: NDArray[np.int64],
    vectors: Callable[[slice], NDArray[np.float32]],
    lists: Callable[[NDArray[np.float32]], Lists] | None,
) -> str:
    """Write a snapshot and have it on the disk.

    Args:
        path: The file; one that is there is overwritten.
        ids: (N,) int64.
        dim: C.
        offsets: (B + 1,) int64.
        vectors: Gives the vectors of some rows, (n, C) float32.
        lists: Given all vectors, mapped from the file, says what the blocks are lists of.

    Returns:
        SHA-256 of the head, hexadecimal.

    Raises:
        OSError: It cannot be written.
    """
    checksums = np.zeros(len(offsets) - 1, np.uint32)
    with path.open("wb") as file:
        file.write(bytes(_PAGE))
        for block, (start, end) in enumerate(zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)):
            content = np.ascontiguousarray(vectors(slice(start, end)), "<f4").tobytes()
            checksums[block] = zlib.crc32(content)
            file.write(content)
        file.flush()
        made = None if lists is None else lists(_mapped(path, len(ids), dim))
        parts: dict[str, NDArray[np.generic]] = {"ids": ids, "offsets": offsets, "checksums": checksums}
        if made is not None:
            parts |= {
                "centroids": made.centroids,
                "neighbours": made.neighbours,
                "volumes": made.volumes,
                "measured": np.array([made.recall, made.trained_on], np.float64),
            }
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **parts)
        head = buffer.getvalue()
        begins = _PAGE + 4 * len(ids) * dim
        prefix = _PREFIX.pack(_MAGIC, begins, len(head))
        file.write(head)
        file.seek(0)
        file.write(prefix)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(prefix + head).hexdigest()


def read_snapshot(path: Path, sha256: str, dim: int, count: int) -> Snapshot:
    """Map a snapshot.

    Args:
        path: The file.
        sha256: What its head hashes to.
        dim: C.
        count: N.

    Returns:
        The snapshot; its head is verified, its vectors are not yet.

    Raises:
        OSError: It is not there or cannot be read.
        CatalogError: It is not what was written.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        begins = _PAGE + 4 * count * dim
        prefix = _PREFIX.pack(_MAGIC, begins, max(size - begins, 0))
        if file.read(_PAGE) != prefix.ljust(_PAGE, b"\0"):
            raise CatalogError(f"it does not hold {count} vectors of {dim} dimensions")
        file.seek(begins)
        head = file.read()
    if hashlib.sha256(prefix + head).hexdigest() != sha256:
        raise CatalogError("its content is not what was written")
    try:
        with np.load(io.BytesIO(head), allow_pickle=False) as parts:
            found = {name: parts[name] for name in parts.files}
        lists = None
        if "centroids" in found:
            recall, trained_on = found["measured"].tolist()
            lists = Lists(found["centroids"], found["neighbours"], found["volumes"], recall, int(trained_on))
        return Snapshot(
            path.name, found["ids"], _mapped(path, count, dim), found["offsets"], found["checksums"], lists
        )
    except (ValueError, KeyError, BadZipFile) as error:
        raise CatalogError(f"its head cannot be read ({error})") from error


def _mapped(path: Path, count: int, dim: int) -> NDArray[np.float32]:
    if not count * dim:
        return np.zeros((count, dim), np.float32)
    # A plain array: slices of np.memmap cost several times as much.
    return np.asarray(np.memmap(path, np.dtype("<f4"), "r", _PAGE, (count, dim)))
