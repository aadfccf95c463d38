"""Clusters: states, of which the newest is in force.

A state is one row of `cluster_run` with a member row for every view that was looked at. A clustering makes a
state, and so does every edit by hand; none is ever changed. Names are part of a state; `cluster.name` repeats
those of the state in force.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.live import live_view
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.store import CatalogStore, chunks

__all__ = [
    "OUTLIER",
    "ClusterState",
    "StateSummary",
    "clustering_of",
    "clustering_run",
    "current_run",
    "current_state",
    "last_clusters",
    "list_states",
    "require_state",
    "run_before",
    "save_clustering",
    "save_edit",
    "state_of",
]

OUTLIER = -1
"""Stands for "in no cluster" in arrays of cluster ids and labels."""

# Member rows written at a time: bounds the memory.
_ROWS = 10_000


@dataclass(frozen=True, slots=True, eq=False)
class ClusterState:
    """Which view is in which cluster, after a clustering or an edit.

    Attributes:
        run_id: The run that made it.
        model_id: The model whose vectors were clustered.
        command: The run's command, such as `cluster` or `cluster merge`.
        at: When, UTC, ISO 8601.
        method: The clustering's method; of an edit, what it did: `name`, `merge`, `split` or `undo`.
        parameters: The clustering's parameters and scores, or what was edited.
        based_on: The run of the state that was edited, or None for a clustering.
        view_ids: (N,) int64, rising; those of photos without a live file are left out.
        cluster_ids: (N,) int64; `OUTLIER` for those in no cluster.
        strengths: (N,) float64, 0..1; higher fits the cluster better.
        names: Name by cluster id, of those that have one.
    """

    run_id: int
    model_id: int
    command: str
    at: str
    method: str
    parameters: Mapping[str, Any]
    based_on: int | None
    view_ids: NDArray[np.int64]
    cluster_ids: NDArray[np.int64]
    strengths: NDArray[np.float64]
    names: Mapping[int, str]

    @property
    def ids(self) -> list[int]:
        """The clusters, rising."""
        return [each for each in np.unique(self.cluster_ids).tolist() if each != OUTLIER]

    def rows(self, cluster_id: int) -> NDArray[np.int64]:
        """Return the rows of the members of a cluster, rising.

        Raises:
            InvalidInputError: There is no such cluster now.
        """
        found = np.flatnonzero(self.cluster_ids == cluster_id)
        if cluster_id == OUTLIER or not len(found):
            raise InvalidInputError(
                f"there is no cluster {cluster_id} now; `birdsearch cluster list` shows those that there are"
            )
        return found


@dataclass(frozen=True, slots=True)
class StateSummary:
    """A state in short.

    Attributes:
        run_id: The run that made it.
        at: When, UTC, ISO 8601.
        method: As `ClusterState.method`.
        based_on: As `ClusterState.based_on`.
        clusters: How many clusters there are.
        photos: How many views were looked at.
        outliers: How many of them are in no cluster.
    """

    run_id: int
    at: str
    method: str
    based_on: int | None
    clusters: int
    photos: int
    outliers: int


# -- reading -------------------------------------------------------------------------------------------------


def current_run(store: CatalogStore) -> int | None:
    """Return the run whose state is in force: the newest that was finished; None before the first."""
    with store.reading() as connection:
        return _newest_run(connection)


def _newest_run(connection: sa.Connection) -> int | None:
    run, state = schema.run.c, schema.cluster_run.c
    newest: int | None = connection.execute(
        sa.select(sa.func.max(run.id))
        .join(schema.cluster_run, state.run_id == run.id)
        .where(run.outcome == "done")
    ).scalar_one()
    return newest


def current_state(store: CatalogStore) -> ClusterState | None:
    """Return the state in force; None before the first."""
    newest = current_run(store)
    return None if newest is None else state_of(store, newest)


def require_state(store: CatalogStore) -> ClusterState:
    """Return the state in force.

    Raises:
        InvalidInputError: Nothing was clustered yet.
    """
    state = current_state(store)
    if state is None:
        raise InvalidInputError("nothing is clustered yet; run `birdsearch cluster`")
    return state


def state_of(store: CatalogStore, run_id: int) -> ClusterState:
    """Return the state that a run made.

    Raises:
        InvalidInputError: The run made none.
        CatalogError: What is stored of it cannot be read.
    """
    member = schema.cluster_member.c
    with store.reading() as connection:
        head = connection.execute(
            sa.select(schema.cluster_run, schema.run.c.command, schema.run.c.started_at)
            .join(schema.run, schema.run.c.id == schema.cluster_run.c.run_id)
            .where(schema.cluster_run.c.run_id == run_id)
        ).one_or_none()
        rows = connection.execute(
            sa.select(member.view_id, sa.func.coalesce(member.cluster_id, OUTLIER), member.strength)
            .where(member.run_id == run_id, live_view(member.view_id))
            .order_by(member.view_id)
        ).all()
    if head is None:
        raise InvalidInputError(f"run {run_id} made no clusters")
    try:
        parameters = dict(json.loads(head.parameters))
        names = {int(key): str(name) for key, name in parameters.pop("names", {}).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise CatalogError(
            f"the parameters of cluster run {run_id} cannot be read ({error}); cluster again"
        ) from error
    table = np.array([tuple(row) for row in rows], dtype=[("v", "i8"), ("c", "i8"), ("s", "f8")])
    return ClusterState(
        run_id=run_id,
        model_id=head.model_id,
        command=head.command,
        at=head.started_at,
        method=head.method,
        parameters=parameters,
        based_on=head.based_on,
        view_ids=np.ascontiguousarray(table["v"]),
        cluster_ids=np.ascontiguousarray(table["c"]),
        strengths=np.ascontiguousarray(table["s"]),
        names=names,
    )


def list_states(store: CatalogStore, most: int = 100) -> list[StateSummary]:
    """List the newest states, the one in force first.

    Args:
        store: An open catalog.
        most: How many.
    """
    run, head, member = schema.run.c, schema.cluster_run.c, schema.cluster_member.c
    with store.reading() as connection:
        heads = connection.execute(
            sa.select(run.id, run.started_at, head.method, head.based_on)
            .join(schema.cluster_run, head.run_id == run.id)
            .where(run.outcome == "done")
            .order_by(run.id.desc())
            .limit(most)
        ).all()
        counts = {
            row.run_id: row
            for row in connection.execute(
                sa.select(
                    member.run_id,
                    sa.func.count().label("photos"),
                    sa.func.count(member.cluster_id).label("placed"),
                    sa.func.count(sa.distinct(member.cluster_id)).label("clusters"),
                )
                .where(member.run_id.in_([row.id for row in heads]))
                .group_by(member.run_id)
            )
        }
    return [
        StateSummary(
            run_id=row.id,
            at=row.started_at,
            method=row.method,
            based_on=row.based_on,
            clusters=counts[row.id].clusters,
            photos=counts[row.id].photos,
            outliers=counts[row.id].photos - counts[row.id].placed,
        )
        for row in heads
    ]


def clustering_of(store: CatalogStore, state: ClusterState) -> ClusterState:
    """Return the clustering that a state goes back to: itself unless it was edited."""
    return state if state.based_on is None else state_of(store, clustering_run(store, state))


def clustering_run(store: CatalogStore, state: ClusterState) -> int:
    """Return the run of the clustering that a state goes back to."""
    head = schema.cluster_run.c
    run_id, before = state.run_id, state.based_on
    with store.reading() as connection:
        while before is not None:
            run_id = before
            before = connection.execute(sa.select(head.based_on).where(head.run_id == run_id)).scalar_one()
    return run_id


def last_clusters(store: CatalogStore) -> dict[int, int]:
    """Return the cluster that each view was last in, by any finished run; `OUTLIER` for none."""
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
    return {row[0]: row[1] for row in rows}


def run_before(store: CatalogStore, run_id: int) -> int | None:
    """Return the newest finished run that made a state before another; None if there is none."""
    run, state = schema.run.c, schema.cluster_run.c
    with store.reading() as connection:
        older: int | None = connection.execute(
            sa.select(sa.func.max(run.id))
            .join(schema.cluster_run, state.run_id == run.id)
            .where(run.outcome == "done", run.id < run_id)
        ).scalar_one()
    return older


# -- writing -------------------------------------------------------------------------------------------------


def save_clustering(
    store: CatalogStore,
    model_id: int,
    method: str,
    parameters: Mapping[str, Any],
    view_ids: NDArray[np.int64],
    labels: NDArray[np.int64],
    strengths: NDArray[np.float64],
    kept: Mapping[int, int],
    started_at: str,
) -> ClusterState:
    """Write a clustering in one transaction.

    Its run begins now, so that it is newer than all edits that were made while it was worked out.

    Args:
        store: A catalog open for writing.
        model_id: The model whose vectors were clustered.
        method: How.
        parameters: What the state keeps of it, in JSON types.
        view_ids: (N,) int64, those that were clustered.
        labels: (N,) int64, from 0; negative for outliers.
        strengths: (N,) float64, 0..1.
        kept: Ids of clusters that are known again, by label; the others get new ids.
        started_at: When the run began, UTC, ISO 8601.

    Returns:
        The new state.
    """
    with store.writing() as connection:
        run_id = start_run(connection, "cluster", model_id, started_at=started_at)
        ids = _with_ids(connection, run_id, labels, kept)
        names = _names_of(connection, sorted(set(kept.values())))
        _save_head(connection, run_id, model_id, method, parameters, names, None)
        _save_members(connection, run_id, view_ids, ids, strengths)
        counts = {
            "photos": len(view_ids),
            "clusters": len(np.unique(ids[ids != OUTLIER])),
            "outliers": int((ids == OUTLIER).sum()),
            "kept": len(kept),
            "method": method,
        }
        finish_run(connection, run_id, counts)
    return state_of(store, run_id)


def _with_ids(
    connection: sa.Connection, run_id: int, labels: NDArray[np.int64], kept: Mapping[int, int]
) -> NDArray[np.int64]:
    """Return labels as cluster ids: those known again, and new ones by size, the largest first.

    Of equally large ones, that which comes first in `labels` is first.
    """
    names, first, sizes = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    fresh = [
        (-size, row, label)
        for label, row, size in zip(names.tolist(), first.tolist(), sizes.tolist(), strict=True)
        if label not in kept
    ]
    ids = dict(kept)
    for (_, _, label), cluster_id in zip(
        sorted(fresh), _new_clusters(connection, run_id, len(fresh)), strict=True
    ):
        ids[label] = cluster_id
    lookup = np.array([*(ids[label] for label in names.tolist()), OUTLIER], dtype=np.int64)
    return lookup[np.where(labels >= 0, np.searchsorted(names, labels), len(names))]


def save_edit(
    store: CatalogStore,
    base: ClusterState,
    verb: str,
    parameters: Mapping[str, Any],
    names: Mapping[int, str],
    *,
    merged: Mapping[int, int] | None = None,
    parts: Sequence[NDArray[np.int64]] = (),
    strengths: Mapping[int, float] | None = None,
    current: int | None = None,
) -> ClusterState:
    """Write a state that is based on another, in one transaction.

    Args:
        store: A catalog open for writing.
        base: The other.
        verb: `name`, `merge`, `split` or `undo`.
        parameters: What was asked, in JSON types.
        names: All names afterwards.
        merged: The cluster that takes in the members of another, by the other's id.
        parts: Views that go into new clusters, one for each part.
        strengths: New strength by view.
        current: The run whose state is in force, if not that of `base`.

    Returns:
        The new state.

    Raises:
        InvalidInputError: Another state was written meanwhile.
    """
    table, member = schema.cluster_member, schema.cluster_member.c
    cluster: sa.ColumnElement[Any] = member.cluster_id
    if merged:
        cluster = sa.case(dict(merged), value=member.cluster_id, else_=member.cluster_id)
    with store.writing() as connection:
        if _newest_run(connection) != (base.run_id if current is None else current):
            raise InvalidInputError(
                "the clusters were made anew meanwhile; nothing was changed: look at them again"
            )
        run_id = start_run(connection, f"cluster {verb}", base.model_id)
        fresh = _new_clusters(connection, run_id, len(parts))
        stored = {**parameters, **({"new": fresh} if fresh else {})}
        _save_head(connection, run_id, base.model_id, verb, stored, names, base.run_id)
        connection.execute(
            sa.insert(table).from_select(
                ["run_id", "view_id", "cluster_id", "strength"],
                sa.select(sa.literal(run_id), member.view_id, cluster, member.strength).where(
                    member.run_id == base.run_id
                ),
            )
        )
        one = sa.and_(member.run_id == run_id, member.view_id == sa.bindparam("view"))
        for cluster_id, part in zip(fresh, parts, strict=True):
            connection.execute(
                sa.update(table).where(one).values(cluster_id=cluster_id),
                [{"view": view_id} for view_id in part.tolist()],
            )
        if strengths:
            connection.execute(
                sa.update(table).where(one).values(strength=sa.bindparam("value")),
                [{"view": view_id, "value": value} for view_id, value in strengths.items()],
            )
        _save_names(connection, base.ids, names)
        finish_run(connection, run_id, stored)
    return state_of(store, run_id)


def _save_names(connection: sa.Connection, cluster_ids: Sequence[int], names: Mapping[int, str]) -> None:
    cluster = schema.cluster.c
    connection.execute(
        sa.update(schema.cluster).where(cluster.id == sa.bindparam("key")).values(name=sa.bindparam("value")),
        [{"key": key, "value": names.get(key)} for key in sorted({*cluster_ids, *names})],
    )


def _new_clusters(connection: sa.Connection, run_id: int, count: int) -> list[int]:
    """Return the ids of new clusters, rising; none was ever used before."""
    return [
        int(
            connection.execute(
                sa.insert(schema.cluster).values(run_id=run_id).returning(schema.cluster.c.id)
            ).scalar_one()
        )
        for _ in range(count)
    ]


def _names_of(connection: sa.Connection, cluster_ids: Sequence[int]) -> dict[int, str]:
    cluster = schema.cluster.c
    names: dict[int, str] = {}
    for ids in chunks(cluster_ids):
        rows = connection.execute(
            sa.select(cluster.id, cluster.name).where(cluster.id.in_(ids), cluster.name.is_not(None))
        )
        names.update((row.id, row.name) for row in rows)
    return names


def _save_head(
    connection: sa.Connection,
    run_id: int,
    model_id: int,
    method: str,
    parameters: Mapping[str, Any],
    names: Mapping[int, str],
    based_on: int | None,
) -> None:
    stored = {**parameters, "names": {str(key): names[key] for key in sorted(names)}}
    connection.execute(
        sa.insert(schema.cluster_run).values(
            run_id=run_id,
            model_id=model_id,
            method=method,
            parameters=json.dumps(_plain(stored)),
            based_on=based_on,
        )
    )


def _plain(value: object) -> object:
    """Return a value in JSON types; what is not finite is null."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


def _save_members(
    connection: sa.Connection,
    run_id: int,
    view_ids: NDArray[np.int64],
    cluster_ids: NDArray[np.int64],
    strengths: NDArray[np.float64],
) -> None:
    for start in range(0, len(view_ids), _ROWS):
        part = slice(start, start + _ROWS)
        rows = [
            {
                "run_id": run_id,
                "view_id": view_id,
                "cluster_id": None if cluster_id == OUTLIER else cluster_id,
                "strength": strength,
            }
            for view_id, cluster_id, strength in zip(
                view_ids[part].tolist(), cluster_ids[part].tolist(), strengths[part].tolist(), strict=True
            )
        ]
        connection.execute(sa.insert(schema.cluster_member), rows)
