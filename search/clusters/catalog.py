"""The clusters of a catalog: made from stored embeddings, and known again from run to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.clusters import (
    OUTLIER,
    ClusterState,
    clustering_of,
    current_state,
    last_clusters,
    save_clustering,
    state_of,
)
from birdsearch.indexer.catalog.embeddings import unit_vectors
from birdsearch.indexer.catalog.filtered_photos import allowed_views
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.runs import recorded_failure
from birdsearch.indexer.catalog.store import CatalogStore, now
from birdsearch.indexer.catalog.views import view_facts, whole_views
from birdsearch.search.query.vote_groups import Kinship, kinship

__all__ = [
    "NEW",
    "Algorithm",
    "Clustered",
    "cluster_catalog",
    "default_algorithm",
    "event_groups",
    "load_unit",
    "match_clusters",
    "member_kinship",
    "numbered",
    "representatives",
]

NEW = -2
"""Stands for "was in no state before" in arrays of old cluster ids."""

# Vectors read at a time: bounds the memory.
_ROWS = 10_000


class Clustered(Protocol):
    """The answer of a clustering algorithm, such as `birdsearch.search.clusters.vectors.Clustering`."""

    @property
    def labels(self) -> NDArray[np.int64]:
        """(N,) from 0; -1 for outliers."""

    @property
    def strength(self) -> NDArray[np.float64]:
        """(N,) how well each fits its cluster, 0..1; higher is better."""

    @property
    def method(self) -> str:
        """The method that was used."""

    @property
    def parameters(self) -> Mapping[str, Any]:
        """With what."""

    @property
    def scores(self) -> Mapping[str, Any]:
        """How good the method found the result."""


Algorithm = Callable[..., Clustered]
"""Called like `birdsearch.search.clusters.vectors.cluster_vectors`."""


def default_algorithm() -> Algorithm:
    """Return `cluster_vectors`, loaded when it is needed."""
    from birdsearch.search.clusters.vectors import cluster_vectors

    return cluster_vectors


# -- clustering ----------------------------------------------------------------------------------------------


def cluster_catalog(
    store: CatalogStore,
    model_id: int,
    *,
    method: str = "auto",
    k: int | None = None,
    frames: bool = False,
    where: Where | None = None,
    seed: int = 0,
    algorithm: Algorithm | None = None,
    progress: Callable[..., None] | None = None,
) -> ClusterState:
    """Cluster the photos of a catalog by their stored embeddings, and keep the result.

    The frames of one event show the same bird before the same background and would make a cluster of their own.
    So each event is clustered by one representative, its sharpest photo, and all its members go where that one
    goes. What is of one event, `kinship` says of the whole catalog, whatever the conditions.

    Vectors are given to the algorithm in the order of the photos' content hashes: the partition does not depend
    on the order in which photos were indexed. Nothing is in force before all of it is written.

    Args:
        store: A catalog open for writing.
        model_id: The model whose vectors are clustered.
        method: As `cluster_vectors` takes it.
        k: Number of clusters, for methods that take one.
        frames: Cluster every photo by itself, not by event.
        where: Conditions on the photos; all of them if None.
        seed: For methods that draw.
        algorithm: What clusters; `cluster_vectors` if None.
        progress: Passed on to it.

    Returns:
        The new state. Its `parameters` have `skipped`, the number of photos whose stored vector is damaged; `kept`,
        the number of clusters that were known again; and `edits_dropped`, the number of merges and splits by hand
        since the clustering before, which a new one does not repeat.

    Raises:
        InvalidInputError: No photo meets the conditions, or the method cannot be used as asked.
    """
    where = Where() if where is None else where
    started_at = now()
    with recorded_failure(store, "cluster", model_id):
        asked = whole_views(store, allowed_views(store, model_id, where))
        if not len(asked):
            raise InvalidInputError("there is no photo to cluster; check the conditions, or index a folder")
        sharpness, digests = view_facts(store, asked)
        by_content = np.array(sorted(range(len(asked)), key=digests.__getitem__), dtype=np.int64)
        events = event_groups(store, model_id, asked)
        unit, is_whole = load_unit(store, model_id, asked[by_content])
        by_content = by_content[is_whole]
        if not len(by_content):
            raise InvalidInputError("every stored vector is damaged; run `birdsearch check`")
        views, groups = asked[by_content], numbered(events[by_content])
        chosen = np.arange(len(views)) if frames else representatives(groups, sharpness[by_content])
        found = (algorithm or default_algorithm())(
            unit[chosen], method, k=k, seed=seed, groups=groups if frames else None, progress=progress
        )
        member = np.arange(len(views)) if frames else groups
        labels = np.asarray(found.labels, dtype=np.int64)[member]
        strengths = np.clip(np.nan_to_num(np.asarray(found.strength, np.float64)), 0.0, 1.0)[member]
        former = current_state(store)
        kept = match_clusters(_last_clusters(store, former, views), labels)
        parameters = {
            "parameters": dict(found.parameters),
            "scores": dict(found.scores),
            "frames": frames,
            "seed": seed,
            "is_whole_catalog": where.is_empty,
            "events": int(groups.max()) + 1,
            "skipped": len(asked) - len(views),
            "kept": len(kept),
            "edits_dropped": _edits(store, former),
        }
        return save_clustering(
            store, model_id, found.method, parameters, views, labels, strengths, kept, started_at
        )


def event_groups(store: CatalogStore, model_id: int, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the event of each view, (N,) int64, by its smallest view id; see `member_kinship`."""
    return member_kinship(store, model_id, view_ids).groups


def member_kinship(store: CatalogStore, model_id: int, view_ids: NDArray[np.int64]) -> Kinship:
    """Return the picture and the event of each view; see `kinship`.

    Every searchable view is looked at beside those asked for: what is of one event does not depend on a choice.
    """
    every = np.union1d(whole_views(store, allowed_views(store, model_id, Where())), view_ids)
    found = kinship(store, model_id, every)
    rows = np.searchsorted(every, view_ids)
    return Kinship(found.pictures[rows], found.groups[rows])


def load_unit(
    store: CatalogStore, model_id: int, view_ids: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Read stored embeddings, unit-norm.

    Returns:
        (M, C) float32 vectors of the views whose stored vector is whole, finite and not zero; and which of the N
        these are, (N,) bool.
    """
    unit, is_whole = unit_vectors(store, model_id, view_ids)
    return unit if is_whole.all() else unit[is_whole], is_whole


def _edits(store: CatalogStore, state: ClusterState | None) -> int:
    found = 0
    while state is not None and state.based_on is not None:
        found += state.method in ("merge", "split")
        state = state_of(store, state.based_on)
    return found


def numbered(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Number groups 0, 1, ... in the order in which they first come."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def representatives(groups: NDArray[np.int64], sharpness: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the row of the sharpest of each group 0, 1, ...; of equally sharp ones the first."""
    order = np.lexsort((np.arange(len(groups)), -sharpness, groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.asarray(order[first], dtype=np.int64)


# -- known again ---------------------------------------------------------------------------------------------


def match_clusters(before: NDArray[np.int64], after: NDArray[np.int64]) -> dict[int, int]:
    """Match new clusters to old ones by the members that they share.

    A new cluster is an old one if both hold: of the old one's members that are in a cluster now, more than half
    are in the new one; of the new one's members that were there before, outliers included, more than half are of
    the old one. Each cluster then has at most one partner, so that these pairs are the maximum-weight one-to-one
    matching among themselves for any weight that rises with the members shared, and no tie can arise.

    NOTE: a share of the smaller cluster alone would hand the name of ten photos to a cluster of a thousand that
    took them in. A wrong name costs more than a lost one, so both have to agree.

    Args:
        before: (N,) int64, old cluster id of each view; `OUTLIER` for outliers, `NEW` for views that no state had.
        after: (N,) int64, new label of each view, or `OUTLIER`.

    Returns:
        Old cluster id by new label.
    """
    is_both = (before >= 0) & (after >= 0)
    pairs, shared = np.unique(np.stack([before[is_both], after[is_both]], axis=1), axis=0, return_counts=True)
    old, old_sizes = np.unique(before[is_both], return_counts=True)
    is_known = (before != NEW) & (after >= 0)
    new, new_sizes = np.unique(after[is_known], return_counts=True)
    most_of_old = 2 * shared > old_sizes[np.searchsorted(old, pairs[:, 0])]
    most_of_new = 2 * shared > new_sizes[np.searchsorted(new, pairs[:, 1])]
    return {int(label): int(cluster) for cluster, label in pairs[most_of_old & most_of_new].tolist()}


def _last_clusters(
    store: CatalogStore, former: ClusterState | None, view_ids: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the cluster that each view was last in, (N,) int64; `NEW` for views that were in no state.

    Where the state in force looked at a part of the catalog only, the other views are as an older one left them.
    """
    found = np.full(len(view_ids), NEW, dtype=np.int64)
    if former is None:
        return found
    found = np.where(np.isin(view_ids, former.view_ids), _looked_up(former, view_ids), found)
    if clustering_of(store, former).parameters.get("is_whole_catalog", True):
        return found
    last = last_clusters(store)
    return np.array([last.get(view_id, NEW) for view_id in view_ids.tolist()], dtype=np.int64)


def _looked_up(state: ClusterState, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(state.view_ids):
        return np.full(len(view_ids), OUTLIER, dtype=np.int64)
    rows = np.minimum(np.searchsorted(state.view_ids, view_ids), len(state.view_ids) - 1)
    return state.cluster_ids[rows]
