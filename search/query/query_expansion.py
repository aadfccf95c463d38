"""Refined ranking: vectors moved towards their neighbours, so that a bird seen badly is found by those seen well.

Database-side augmentation (Arandjelovic and Zisserman, CVPR 2012) replaces each stored vector x by its neighbours'
weighted mean, and alpha query expansion (Radenovic et al., arXiv 1711.02512, section 3.3) does the same to a query:

    refined(x) = normalised(x + sum_i max(0, (x.n_i - mu) / (1 - mu))^alpha n_i)   over the k nearest n_i

NOTE: mu, the mean cosine of two vectors of the catalog, is taken off first. Where all cosines are high, as with
some networks, the plain power hardly tells near from far. With it the weight falls to nothing where a photo has
fewer than k photos like it, so that rare species are not averaged with others.

Refined vectors order hits. The similarity that people see stays that of the plain vectors.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogReadOnlyError, InvalidInputError
from birdsearch.files import write_whole
from birdsearch.indexer.catalog.refinements import (
    Refinement,
    find_refinement,
    newest_refinement,
    register_refinement,
)
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.vectors.index import VectorIndex, normalised
from birdsearch.search.query.background import above_background, background_cosine
from birdsearch.search.query.knn_graph import knn_graph

__all__ = ["ALPHA", "NEIGHBOURS", "RefinedVectors", "expand", "refined_vectors"]

NEIGHBOURS = 10
ALPHA = 3.0

# Apart from the snapshots of the index, which tidies its own folder.
_FOLDER = "refined"
# Queries of the k-NN graph at a time: bounds memory.
_ROWS = 4096


def expand(
    queries: NDArray[np.float32],
    unit: NDArray[np.float32],
    background: float,
    k: int = NEIGHBOURS,
    alpha: float = ALPHA,
) -> NDArray[np.float32]:
    """Move vectors towards their nearest among some others.

    Args:
        queries: (Q, C) float32, unit-norm.
        unit: (N, C) float32, unit-norm.
        background: mu.
        k: How many neighbours have a part.
        alpha: How fast the weight falls with the similarity, above 0.

    Returns:
        (Q, C) float32, unit-norm. Of equally near neighbours the first counts.

    Raises:
        InvalidInputError: `k` is below 1 or `alpha` not above 0.
    """
    _check(k, alpha)
    if not len(queries) or not len(unit):
        return np.ascontiguousarray(queries, np.float32)
    moved = np.empty(queries.shape, np.float32)
    for start in range(0, len(queries), _ROWS):
        rows = slice(start, start + _ROWS)
        cosines, neighbours = faiss.knn(
            np.ascontiguousarray(queries[rows]), unit, min(k, len(unit)), metric=faiss.METRIC_INNER_PRODUCT
        )
        moved[rows] = _moved(queries[rows], unit, neighbours, cosines, background, alpha)
    return moved


def _check(k: int, alpha: float) -> None:
    if k < 1 or not alpha > 0:
        raise InvalidInputError(f"k is {k} and alpha {alpha}; they have to be at least 1 and above 0")


def _moved(
    queries: NDArray[np.float32],
    unit: NDArray[np.float32],
    neighbours: NDArray[np.int64],
    cosines: NDArray[np.float32],
    background: float,
    alpha: float,
) -> NDArray[np.float32]:
    """Return queries (Q, C) moved towards `unit[neighbours]`, (Q, k); -1 is no neighbour."""
    weights = np.clip(above_background(cosines, background), 0.0, None) ** alpha
    weights[neighbours < 0] = 0.0
    # (B, 1, k) @ (B, k, C) -> (B, C)
    mean = np.einsum("bk,bkc->bc", weights, unit[neighbours].astype(np.float64))
    return normalised((queries.astype(np.float64) + mean).astype(np.float32))


def refined_vectors(
    unit: NDArray[np.float32], k: int = NEIGHBOURS, alpha: float = ALPHA
) -> NDArray[np.float32]:
    """Move every vector towards its neighbours (database-side augmentation).

    Args:
        unit: (N, C) float32, unit-norm.
        k: How many neighbours have a part.
        alpha: How fast the weight falls with the similarity.

    Returns:
        (N, C) float32, unit-norm. Beyond 50,000 vectors nearly all of the neighbours have a part, as
        `birdsearch.search.query.knn_graph.knn_graph` finds them.

    Raises:
        InvalidInputError: `k` is below 1 or `alpha` not above 0.
    """
    _check(k, alpha)
    if len(unit) < 2:
        return np.ascontiguousarray(unit, np.float32)
    graph = knn_graph(unit, k)
    background = background_cosine(unit)
    moved = np.empty(unit.shape, np.float32)
    for start in range(0, len(unit), _ROWS):
        rows = slice(start, start + _ROWS)
        moved[rows] = _moved(unit[rows], unit, graph.neighbours[rows], graph.cosines[rows], background, alpha)
    return moved


class RefinedVectors:
    """The refined vectors of a catalog: a follower that is read if it is current, else made again.

    Attributes:
        plain: What they were made from.
        index: The refined vectors by view id.
        background: mu of the plain vectors.
    """

    def __init__(self, plain: VectorIndex, vectors: NDArray[np.float32]) -> None:
        self.plain = plain
        self.index = VectorIndex.of(plain.view_ids, vectors, plain.model_id, plain.seq)
        self._unit = plain.vectors
        self.background = background_cosine(self._unit)

    @classmethod
    def open(cls, store: CatalogStore, plain: VectorIndex) -> RefinedVectors:
        """Return the refined vectors of an index that has caught up.

        They are read from the catalog's folder if they are of the same state and whole, else made; a catalog that
        is open for writing keeps them.

        Args:
            store: An open catalog; reading is enough.
            plain: Its vectors, caught up.
        """
        # First, since views get other positions where damage is found.
        plain.verify()
        stored = _read(store, plain)
        if stored is not None:
            return cls(plain, stored)
        # In the order of the ids, so that the answer does not depend on the order in which they were added.
        order = np.argsort(plain.view_ids, kind="stable")
        vectors = plain.vectors
        moved = np.empty(vectors.shape, np.float32)
        moved[order] = refined_vectors(np.ascontiguousarray(vectors[order]))
        if store.writable:
            with contextlib.suppress(OSError, CatalogReadOnlyError):
                _save(store, plain, moved)
        return cls(plain, moved)

    def plain_cosines(self, query: NDArray[np.float32], view_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return cosines of a query, (C,) float32 unit-norm, to the plain vectors of the index's views: (N,)."""
        vectors = self.plain.take(self.plain.positions(view_ids))
        exact = vectors.astype(np.float64) @ query.astype(np.float64)
        return np.asarray(exact, dtype=np.float32)

    def queries(self, unit: NDArray[np.float32]) -> NDArray[np.float32]:
        """Move queries towards their neighbours: (Q, C) float32 unit-norm -> the same."""
        return expand(unit, self._unit, self.background)


def _parameters() -> str:
    return json.dumps({"k": NEIGHBOURS, "alpha": ALPHA, "order": "index"})


def _read(store: CatalogStore, plain: VectorIndex) -> NDArray[np.float32] | None:
    row = find_refinement(store, plain.model_id, plain.seq, _parameters())
    if row is None:
        return None
    try:
        content = (store.path / _FOLDER / row.file).read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != row.sha256:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        view_ids, vectors = found["view_ids"], found["vectors"]
    # The two indexes may hold the same views in another order.
    order = np.argsort(view_ids, kind="stable")
    if not np.array_equal(view_ids[order], np.sort(plain.view_ids)):
        return None
    return np.ascontiguousarray(vectors[order][np.searchsorted(view_ids[order], plain.view_ids)])


def _save(store: CatalogStore, plain: VectorIndex, vectors: NDArray[np.float32]) -> None:
    folder = store.path / _FOLDER
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.savez(buffer, view_ids=plain.view_ids, vectors=vectors)
    content = buffer.getvalue()
    generation = newest_refinement(store, plain.model_id) + 1
    path = folder / f"model{plain.model_id}-{generation:06d}.npz"
    write_whole(path, content, sync=True)
    refinement = Refinement(
        model_id=plain.model_id,
        generation=generation,
        seq=plain.seq,
        count=len(plain),
        dim=plain.dim,
        parameters=_parameters(),
        sha256=hashlib.sha256(content).hexdigest(),
        file=path.name,
    )
    kept = register_refinement(store, refinement)
    for stale in folder.iterdir():
        if stale.name not in kept:
            stale.unlink(missing_ok=True)
