"""Deployments: which camera stood where, from when to when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.soundness import refuse_damaged
from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["Deployment", "DeploymentSummary", "read_deployments", "remove_deployments", "store_deployments"]


@dataclass(frozen=True, slots=True)
class Deployment:
    """A camera at a place for a time.

    Attributes:
        name: Unique in the catalog.
        site: Where; deployments of one site are of one place.
        folder: Absolute path of the folder that holds its photos, or None.
        camera: Serial number, or part of make and model in any case, or None.
        starts_at: ISO 8601, local time unless it tells an offset from UTC, or None.
        ends_at: Likewise; its last moment is of the deployment.
        latitude: Degrees north, or None.
        longitude: Degrees east, or None.
        id: Row in the catalog; 0 before it has one.
    """

    name: str
    site: str
    folder: bytes | None = None
    camera: str | None = None
    starts_at: str | None = None
    ends_at: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    id: int = 0

    def __post_init__(self) -> None:
        if not self.name.strip() or not self.site.strip():
            raise InvalidInputError("a deployment needs a name and a site")
        if self.folder is None and self.camera is None:
            raise InvalidInputError(f"{self.name}: give a folder or a camera, by which its photos are found")
        start, end = self.span
        if start is not None and end is not None and _wall(start) > _wall(end):
            raise InvalidInputError(
                f"{self.name}: it starts at {self.starts_at}, after its end {self.ends_at}"
            )
        if (self.latitude is None) != (self.longitude is None):
            raise InvalidInputError(f"{self.name}: give both latitude and longitude, or neither")
        for what, value, limit in (("latitude", self.latitude, 90), ("longitude", self.longitude, 180)):
            if value is not None and not -limit <= value <= limit:
                raise InvalidInputError(
                    f"{self.name}: the {what} {value:g} is not within -{limit} to {limit}"
                )

    @property
    def span(self) -> tuple[datetime | None, datetime | None]:
        """First and last moment; a day counts to its end."""
        return _moment(self.name, self.starts_at, last=False), _moment(self.name, self.ends_at, last=True)


def _moment(name: str, text: str | None, *, last: bool) -> datetime | None:
    if text is None:
        return None
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise InvalidInputError(
            f"{name}: {text!r} is not a time; write it as 2023-05-14 or 2023-05-14T06:30:00, with +02:00 or Z "
            "where it is not the camera's own clock"
        ) from None
    if last and len(text.strip()) <= 10:
        return found.replace(hour=23, minute=59, second=59, microsecond=999_999)
    return found


def _wall(moment: datetime) -> datetime:
    return moment.replace(tzinfo=None)


@dataclass(frozen=True, slots=True)
class DeploymentSummary:
    """What became of a table.

    Attributes:
        run_id: The run.
        added: Names that were new.
        updated: Names that were known with other facts.
        unchanged: Names that were known just so.
    """

    run_id: int
    added: int
    updated: int
    unchanged: int


def read_deployments(store: CatalogStore) -> list[Deployment]:
    """Return the deployments of a catalog, by name."""
    table = schema.deployment.c
    with store.reading() as connection:
        refuse_damaged(connection, store.database_path, "deployment")
        rows = connection.execute(sa.select(schema.deployment).order_by(table.name)).all()
    return [
        Deployment(
            *(row.name, row.site, row.folder, row.camera, row.starts_at, row.ends_at),
            *(row.latitude, row.longitude, row.id),
        )
        for row in rows
    ]


def store_deployments(store: CatalogStore, found: Iterable[Deployment], command: str) -> DeploymentSummary:
    """Write deployments, in one transaction; one of a known name takes the place of what was known.

    Args:
        store: A catalog open for writing.
        found: The deployments.
        command: What the run is recorded as.
    """
    known = {one.name: one for one in read_deployments(store)}
    outcomes: Counter[str] = Counter()
    table = schema.deployment.c
    with store.writing() as connection:
        run_id = start_run(connection, command)
        for one in found:
            before = known.get(one.name)
            values = {
                **{name: getattr(one, name) for name in ("name", "site", "folder", "camera")},
                **{name: getattr(one, name) for name in ("starts_at", "ends_at", "latitude", "longitude")},
                "run_id": run_id,
            }
            if before is None:
                connection.execute(sa.insert(schema.deployment).values(values))
            elif replace(before, id=one.id) != one:
                connection.execute(sa.update(schema.deployment).where(table.id == before.id).values(values))
            outcome = "added" if before is None else "unchanged"
            outcomes["updated" if before is not None and replace(before, id=one.id) != one else outcome] += 1
        counts = {kind: outcomes[kind] for kind in ("added", "updated", "unchanged")}
        finish_run(connection, run_id, {**counts})
    return DeploymentSummary(run_id, **counts)


def remove_deployments(store: CatalogStore, names: Sequence[str]) -> int:
    """Forget deployments; stored events that were of one are then of none.

    Returns:
        How many were forgotten.

    Raises:
        InvalidInputError: A name is not known; nothing was changed.
    """
    known = {one.name: one.id for one in read_deployments(store)}
    absent = [name for name in names if name not in known]
    if absent:
        raise InvalidInputError(
            f"there is no deployment {absent[0]!r}; `birdsearch deployments list` shows all"
        )
    ids = sorted({known[name] for name in names})
    with store.writing() as connection:
        run_id = start_run(connection, "deployments remove")
        connection.execute(
            sa.update(schema.event).where(schema.event.c.deployment_id.in_(ids)).values(deployment_id=None)
        )
        connection.execute(sa.delete(schema.deployment).where(schema.deployment.c.id.in_(ids)))
        finish_run(connection, run_id, {"removed": len(ids)})
    return len(ids)
