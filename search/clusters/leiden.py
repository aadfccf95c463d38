"""Leiden on the k-NN graph and Ward's linkage: clusters of vectors at many scales.

Leiden finds groups of any shape that are much connected within; Ward's linkage finds the small ones that
Leiden, whose measure weighs every group against the whole graph, joins with others (Fortunato and Barthelemy,
"Resolution limit in community detection", PNAS 2007).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import BirdsearchError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.search.query.knn_graph import KnnGraph

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Merges", "community_graph", "leiden", "require_cluster_extra", "smoothed", "ward"]

# Rows at a time: bounds memory.
_ROWS = 16_384
_SWEEPS = 3


def require_cluster_extra() -> None:
    """Say what to install if the packages that cluster are absent.

    Raises:
        BirdsearchError: They are.
    """
    try:
        import graspologic_native  # noqa: F401
        import sklearn  # noqa: F401
    except ImportError as error:
        raise BirdsearchError(
            "clustering needs graspologic-native and scikit-learn; install them with: "
            'pip install "birdsearch[cluster]"'
        ) from error


def smoothed(unit: NDArray[np.float32], graph: KnnGraph, k: int, alpha: float) -> NDArray[np.float32]:
    """Move every vector towards its k nearest in a graph, as `query_expansion` does.

    Args:
        unit: (N, C) float32, unit-norm and centred, so that two strangers have a cosine of about 0.
        graph: Their k-NN graph.
        k: How many neighbours have a part.
        alpha: How fast the weight falls with the cosine.

    Returns:
        (N, C) float32, unit-norm.
    """
    moved = np.empty_like(unit)
    for start in range(0, len(unit), _ROWS):
        rows = slice(start, start + _ROWS)
        weights = _weights(graph.cosines[rows, :k], graph.neighbours[rows, :k], alpha)
        # (B, 1, k) @ (B, k, C) -> (B, C)
        mean = np.einsum("bk,bkc->bc", weights, unit[graph.neighbours[rows, :k]].astype(np.float64))
        moved[rows] = normalised((unit[rows].astype(np.float64) + mean).astype(np.float32))
    return moved


def _weights(
    cosines: NDArray[np.float32], neighbours: NDArray[np.int64], alpha: float
) -> NDArray[np.float64]:
    return np.where(neighbours < 0, 0.0, np.clip(cosines.astype(np.float64), 0.0, 1.0) ** alpha)


def community_graph(graph: KnnGraph, alpha: float) -> Any:
    """Make the k-NN graph undirected: the mean of the two directions' cosine^alpha, strangers left out.

    Returns:
        (N, N) scipy CSR array, float64, its indices sorted.
    """
    from scipy.sparse import csr_array

    count = len(graph.neighbours)
    weights = _weights(graph.cosines, graph.neighbours, alpha) / 2
    kept = weights > 0.0
    starts = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    directed = csr_array(
        (weights[kept], graph.neighbours[kept].astype(np.int32), starts.astype(np.int64)),
        shape=(count, count),
    )
    both = (directed + directed.T).tocsr()
    both.sort_indices()
    return both


def leiden(edges: Any, resolution: float, seed: int) -> NDArray[np.int64]:
    """Return the communities of the greatest modularity.

    Source: V. Traag, L. Waltman, N. J. van Eck, "From Louvain to Leiden", Scientific Reports 9, 2019.

    Args:
        edges: As `community_graph` gives it.
        resolution: gamma; more is finer.
        seed: For the order in which photos are moved.

    Returns:
        (N,) int64, numbers of communities, 0 on.
    """
    import graspologic_native

    count = int(edges.shape[0])
    if not edges.nnz:
        return np.arange(count, dtype=np.int64)
    _, found = graspologic_native.leiden_csr(
        edges.indptr.astype(np.int64),
        edges.indices.astype(np.int32),
        edges.data.astype(np.float64),
        count,
        resolution=float(resolution),
        iterations=_SWEEPS,
        seed=seed,
    )
    # A photo without neighbours is in no community.
    labels = np.fromiter((found.get(row, -1) for row in range(count)), np.int64, count)
    alone = np.flatnonzero(labels < 0)
    labels[alone] = labels.max() + 1 + np.arange(len(alone))
    return np.unique(labels, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Merges:
    """A tree of clusters.

    Attributes:
        pairs: (M - 1, 2) int64: which were joined, by a member of each, in the order of rising heights.
        heights: (M - 1,) float64: by how much each step raised the sum of squared distances to the centroids.
        leaves: (N,) int64, 0..M-1: the leaf of each vector.
    """

    pairs: NDArray[np.int64]
    heights: NDArray[np.float64]
    leaves: NDArray[np.int64]

    def cut(self, counts: Sequence[int]) -> list[NDArray[np.int64]]:
        """Return the labels, (N,) int64 each, with so many clusters, for rising `counts` within 1..M."""
        parent = np.arange(len(self.pairs) + 1)

        def top(leaf: int) -> int:
            while parent[leaf] != leaf:
                parent[leaf] = parent[parent[leaf]]
                leaf = int(parent[leaf])
            return leaf

        cuts: list[NDArray[np.int64]] = []
        done = 0
        for count in sorted(counts, reverse=True):
            while len(parent) - done > count:
                one, other = (top(int(leaf)) for leaf in self.pairs[done])
                parent[max(one, other)] = min(one, other)
                done += 1
            tops = np.array([top(leaf) for leaf in range(len(parent))])
            cuts.append(np.unique(tops, return_inverse=True)[1][self.leaves].astype(np.int64))
        return cuts[::-1]


def ward(unit: NDArray[np.float32], leaves: NDArray[np.int64] | None = None) -> Merges:
    """Join M leaves by Ward's linkage: always the two that raise the sum of squared distances least.

    Found by chains of nearest neighbours, in time M^2 and memory M^2 (Murtagh and Legendre, "Ward's hierarchical
    agglomerative clustering method", J. Classification 31, 2014).

    NOTE: the linkage of SciPy weighs every leaf alike, and so cannot start from small clusters of different sizes.

    Args:
        unit: (N, C) float32.
        leaves: (N,) int64, 0..M-1: what is joined from the outset; every vector is a leaf of its own if None.
    """
    if leaves is None:
        leaves = np.arange(len(unit), dtype=np.int64)
    sizes = np.bincount(leaves).astype(np.float64)
    count = len(sizes)
    centres = np.zeros((count, unit.shape[1]))
    np.add.at(centres, leaves, unit.astype(np.float64))
    centres /= sizes[:, None]
    squares = (centres**2).sum(axis=1)
    cost = np.clip(squares[:, None] + squares[None, :] - 2.0 * (centres @ centres.T), 0.0, None)
    cost *= (sizes[:, None] * sizes[None, :]) / (sizes[:, None] + sizes[None, :])
    np.fill_diagonal(cost, np.inf)
    alive = np.ones(count, dtype=bool)
    chain: list[int] = []
    steps: list[tuple[float, int, int]] = []
    while len(steps) < count - 1:
        if not chain:
            chain = [int(np.argmax(alive))]
        last = chain[-1]
        near = int(np.argmin(cost[last]))
        # Equally near ones go back along the chain, or it would not end.
        if len(chain) > 1 and cost[last, chain[-2]] <= cost[last, near]:
            near = chain[-2]
            del chain[-2:]
            _join(cost, sizes, alive, min(last, near), max(last, near), steps)
        else:
            chain.append(near)
    heights = np.array([step[0] for step in steps])
    order = np.argsort(heights, kind="stable")
    pairs = np.array([step[1:] for step in steps], dtype=np.int64).reshape(-1, 2)
    return Merges(pairs[order], heights[order], leaves)


def _join(
    cost: NDArray[np.float64],
    sizes: NDArray[np.float64],
    alive: NDArray[np.bool_],
    kept: int,
    gone: int,
    steps: list[tuple[float, int, int]],
) -> None:
    """Join two clusters; the costs of the new one follow Lance and Williams."""
    height = float(cost[kept, gone])
    both = sizes[kept] + sizes[gone]
    alive[gone] = False
    others = np.flatnonzero(alive)
    others = others[others != kept]
    raised = (
        (sizes[kept] + sizes[others]) * cost[kept, others]
        + (sizes[gone] + sizes[others]) * cost[gone, others]
        - sizes[others] * height
    ) / (both + sizes[others])
    cost[gone, :], cost[:, gone] = np.inf, np.inf
    cost[kept, others], cost[others, kept] = raised, raised
    sizes[kept] = both
    steps.append((height, kept, gone))
