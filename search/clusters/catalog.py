"""The clusters of a catalog: made from stored embeddings, and known again from run to run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.embeddings import unit_vectors
from birdsearch.indexer.catalog.runs import finish_run, recorded_failure, start_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks, now
from birdsearch.search.clusters.state import (
    OUTLIER,
    ClusterState,
    clustering_of,
    current_state,
    names_of,
    new_clusters,
    save_head,
    save_members,
    state_of,
)
from birdsearch.search.query.filters import Where, allowed_views
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
    "view_facts",
]

NEW = -2
"""Stands for "was in no state before" in arrays of old cluster ids."""

# Vectors read at a time: bounds the memory.
_ROWS = 10_000


class Clustered(Protocol):
    """What a clustering algorithm answers, such as `birdsearch.search.clusters.vectors.Clustering`."""

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
    """`cluster_vectors`, loaded when it is needed."""
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
        asked = _whole(store, allowed_views(store, model_id, where))
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
        place = np.arange(len(views)) if frames else groups
        labels = np.asarray(found.labels, dtype=np.int64)[place]
        strengths = np.clip(np.nan_to_num(np.asarray(found.strength, np.float64)), 0.0, 1.0)[place]
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
        # The run begins only now, so that it is newer than all edits that were made while it was reckoned.
        with store.writing() as connection:
            run_id = start_run(connection, "cluster", model_id, started_at=started_at)
            ids = _with_ids(connection, run_id, labels, kept)
            names = names_of(connection, sorted(set(kept.values())))
            save_head(connection, run_id, model_id, found.method, parameters, names, None)
            save_members(connection, run_id, views, ids, strengths)
            counts = {
                "photos": len(views),
                "clusters": len(np.unique(ids[ids != OUTLIER])),
                "outliers": int((ids == OUTLIER).sum()),
                "kept": len(kept),
                "method": found.method,
            }
            finish_run(connection, run_id, counts)
    return state_of(store, run_id)


def _whole(store: CatalogStore, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those that are views of the whole frame."""
    view = schema.view.c
    kept: list[int] = []
    with store.reading() as connection:
        for ids in chunks(view_ids.tolist()):
            kept += connection.execute(
                sa.select(view.id).where(view.id.in_(ids), view.kind == "whole").order_by(view.id)
            ).scalars()
    return np.array(kept, dtype=np.int64)


def view_facts(store: CatalogStore, view_ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], list[bytes]]:
    """Sharpness of the photo of each view, (N,) float64, -inf where unknown; and its content hash."""
    view, photo = schema.view.c, schema.photo.c
    found: dict[int, tuple[float | None, bytes]] = {}
    with store.reading() as connection:
        for ids in chunks(view_ids.tolist()):
            for row in connection.execute(
                sa.select(view.id, photo.sharpness, photo.digest)
                .join(schema.photo, photo.id == view.photo_id)
                .where(view.id.in_(ids))
            ):
                found[row.id] = (row.sharpness, row.digest)
    sharpness = [found[view_id][0] for view_id in view_ids.tolist()]
    known = [-np.inf if value is None else value for value in sharpness]
    return np.nan_to_num(np.array(known, np.float64), nan=-np.inf, neginf=-np.inf), [
        found[view_id][1] for view_id in view_ids.tolist()
    ]


def event_groups(store: CatalogStore, model_id: int, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """The event of each view, (N,) int64, named by its smallest view id; see `member_kinship`."""
    return member_kinship(store, model_id, view_ids).groups


def member_kinship(store: CatalogStore, model_id: int, view_ids: NDArray[np.int64]) -> Kinship:
    """The picture and the event of each view; see `kinship`.

    Every searchable view is looked at beside those asked for: what is of one event does not depend on a choice.
    """
    every = np.union1d(_whole(store, allowed_views(store, model_id, Where())), view_ids)
    found = kinship(store, model_id, every)
    places = np.searchsorted(every, view_ids)
    return Kinship(found.pictures[places], found.groups[places])


def load_unit(
    store: CatalogStore, model_id: int, view_ids: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Stored embeddings, unit-norm.

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
    """Groups as 0, 1, ... in the order in which they first come."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def representatives(groups: NDArray[np.int64], sharpness: NDArray[np.float64]) -> NDArray[np.int64]:
    """The place of the sharpest of each group 0, 1, ...; of equally sharp ones the first."""
    order = np.lexsort((np.arange(len(groups)), -sharpness, groups))
    _, first = np.unique(groups[order], return_index=True)
    return np.asarray(order[first], dtype=np.int64)


# -- known again ---------------------------------------------------------------------------------------------


def match_clusters(before: NDArray[np.int64], after: NDArray[np.int64]) -> dict[int, int]:
    """Which new clusters are old ones, by the members that they share.

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
    """The cluster that each view was last in, (N,) int64; `NEW` for views that were in no state.

    Where the state in force looked at a part of the catalog only, the other views are as an older one left them.
    """
    found = np.full(len(view_ids), NEW, dtype=np.int64)
    if former is None:
        return found
    found = np.where(np.isin(view_ids, former.view_ids), _looked_up(former, view_ids), found)
    if clustering_of(store, former).parameters.get("is_whole_catalog", True):
        return found
    member, run = schema.cluster_member.c, schema.run.c
    newest = (
        sa.select(member.view_id, sa.func.max(member.run_id).label("run_id"))
        .join(schema.run, run.id == member.run_id)
        .where(run.outcome == "done")
        .group_by(member.view_id)
        .subquery()
    )
    with store.reading() as connection:
        rows = connection.execute(
            sa.select(member.view_id, sa.func.coalesce(member.cluster_id, OUTLIER)).join(
                newest, sa.and_(newest.c.view_id == member.view_id, newest.c.run_id == member.run_id)
            )
        ).all()
    last = {row[0]: row[1] for row in rows}
    return np.array([last.get(view_id, NEW) for view_id in view_ids.tolist()], dtype=np.int64)


def _looked_up(state: ClusterState, view_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(state.view_ids):
        return np.full(len(view_ids), OUTLIER, dtype=np.int64)
    places = np.minimum(np.searchsorted(state.view_ids, view_ids), len(state.view_ids) - 1)
    return state.cluster_ids[places]


def _with_ids(
    connection: sa.Connection, run_id: int, labels: NDArray[np.int64], kept: Mapping[int, int]
) -> NDArray[np.int64]:
    """Labels as cluster ids: those of the clusters known again, and new ones by size, the largest first.

    Of equally large ones, that which comes first in `labels` is first.
    """
    names, first, sizes = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    fresh = [
        (-size, place, label)
        for label, place, size in zip(names.tolist(), first.tolist(), sizes.tolist(), strict=True)
        if label not in kept
    ]
    ids = dict(kept)
    for (_, _, label), cluster_id in zip(
        sorted(fresh), new_clusters(connection, run_id, len(fresh)), strict=True
    ):
        ids[label] = cluster_id
    lookup = np.array([*(ids[label] for label in names.tolist()), OUTLIER], dtype=np.int64)
    return lookup[np.where(labels >= 0, np.searchsorted(names, labels), len(names))]
