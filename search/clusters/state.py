"""The clusters of a catalog as they are kept: states, of which the newest is in force.

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
from birdsearch.indexer.catalog.store import CatalogStore, chunks

__all__ = [
    "OUTLIER",
    "ClusterState",
    "StateSummary",
    "clustering_of",
    "clustering_run",
    "current_run",
    "current_state",
    "list_states",
    "names_of",
    "new_clusters",
    "require_state",
    "save_head",
    "save_members",
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

    def places(self, cluster_id: int) -> NDArray[np.int64]:
        """Where the members of a cluster are, rising.

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
    """The run whose state is in force: the newest that was finished; None before the first."""
    with store.reading() as connection:
        return newest_run(connection)


def newest_run(connection: sa.Connection) -> int | None:
    """Return what `current_run` does, in a transaction that is open."""
    run, state = schema.run.c, schema.cluster_run.c
    newest: int | None = connection.execute(
        sa.select(sa.func.max(run.id))
        .join(schema.cluster_run, state.run_id == run.id)
        .where(run.outcome == "done")
    ).scalar_one()
    return newest


def current_state(store: CatalogStore) -> ClusterState | None:
    """The state in force; None before the first."""
    newest = current_run(store)
    return None if newest is None else state_of(store, newest)


def require_state(store: CatalogStore) -> ClusterState:
    """The state in force.

    Raises:
        InvalidInputError: Nothing was clustered yet.
    """
    state = current_state(store)
    if state is None:
        raise InvalidInputError("nothing is clustered yet; run `birdsearch cluster`")
    return state


def state_of(store: CatalogStore, run_id: int) -> ClusterState:
    """The state that a run made.

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
    """The newest states, the one in force first.

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
    """The clustering that a state goes back to, itself if it is none of an edit."""
    return state if state.based_on is None else state_of(store, clustering_run(store, state))


def clustering_run(store: CatalogStore, state: ClusterState) -> int:
    """The run of the clustering that a state goes back to."""
    head = schema.cluster_run.c
    run_id, before = state.run_id, state.based_on
    with store.reading() as connection:
        while before is not None:
            run_id = before
            before = connection.execute(sa.select(head.based_on).where(head.run_id == run_id)).scalar_one()
    return run_id


# -- writing -------------------------------------------------------------------------------------------------


def new_clusters(connection: sa.Connection, run_id: int, count: int) -> list[int]:
    """Ids of new clusters, rising; none was ever used before."""
    return [
        int(
            connection.execute(
                sa.insert(schema.cluster).values(run_id=run_id).returning(schema.cluster.c.id)
            ).scalar_one()
        )
        for _ in range(count)
    ]


def names_of(connection: sa.Connection, cluster_ids: Sequence[int]) -> dict[int, str]:
    """The names that clusters have now, of those that have one."""
    cluster = schema.cluster.c
    names: dict[int, str] = {}
    for ids in chunks(cluster_ids):
        rows = connection.execute(
            sa.select(cluster.id, cluster.name).where(cluster.id.in_(ids), cluster.name.is_not(None))
        )
        names.update((row.id, row.name) for row in rows)
    return names


def save_head(
    connection: sa.Connection,
    run_id: int,
    model_id: int,
    method: str,
    parameters: Mapping[str, Any],
    names: Mapping[int, str],
    based_on: int | None,
) -> None:
    """Write the `cluster_run` row of a state."""
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
    """A value in JSON types; what is not finite is null."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | str | None) else str(value)


def save_members(
    connection: sa.Connection,
    run_id: int,
    view_ids: NDArray[np.int64],
    cluster_ids: NDArray[np.int64],
    strengths: NDArray[np.float64],
) -> None:
    """Write the member rows of a state."""
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
