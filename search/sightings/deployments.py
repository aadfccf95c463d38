"""Deployments: which camera stood where, from when to when."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

import sqlalchemy as sa

from birdsearch.csv_table import CsvTable
from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.runs import finish_run, start_run
from birdsearch.indexer.catalog.soundness import refuse_damaged
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.sightings.frames import Frames

__all__ = [
    "Deployment",
    "DeploymentSummary",
    "deployments_from_folders",
    "missing_folders",
    "parse_deployments",
    "read_deployments",
    "remove_deployments",
    "store_deployments",
]

# Our name of a column and the names that it is found under, the first that is there counts; the second half are
# those of Camtrap DP 1.0, table `deployments`.
_COLUMNS = {
    "name": ("name", "deployment", "deploymentid"),
    "site": ("site", "locationname", "locationid"),
    "folder": ("folder", "relativepath", "path"),
    "camera": ("camera", "cameraid"),
    "starts_at": ("start", "deploymentstart"),
    "ends_at": ("end", "deploymentend"),
    "latitude": ("latitude",),
    "longitude": ("longitude",),
}


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


def parse_deployments(text: str, source: str, roots: Sequence[bytes] = ()) -> list[Deployment]:
    """Read a table of deployments.

    Args:
        text: CSV with a header, with any separator: `name` or `deployment`, `site`, `folder`, `camera`, `start`,
            `end`, `latitude`, `longitude`; the names of Camtrap DP's table `deployments` are understood too. Other
            columns are left.
        source: Where it is from, for messages.
        roots: Folders that a relative `folder` may be in; the first that has it counts.

    Returns:
        The deployments in order.

    Raises:
        InvalidInputError: There is no name column, a value cannot be used, or a name comes twice.
    """
    table = CsvTable.of_text(text, source, [name for names in _COLUMNS.values() for name in names])
    columns = {
        ours: [key for name in names if (key := table.column((name,))) is not None]
        for ours, names in _COLUMNS.items()
    }
    if not columns["name"]:
        raise table.without("no column `name`, `deployment` or `deploymentID`")
    found: dict[str, Deployment] = {}
    for row in table.rows:
        where = f"{source}, line {row.line}"
        if row.problem:
            raise InvalidInputError(f"{where}: {row.problem}")
        values = {
            ours: next((row.values[key] for key in keys if key in row.values), "")
            for ours, keys in columns.items()
        }
        if not any(values.values()):
            continue
        try:
            one = _deployment(values, roots)
        except InvalidInputError as error:
            raise InvalidInputError(f"{where}: {error}") from error
        if one.name in found:
            raise InvalidInputError(f"{where}: the deployment {one.name!r} comes twice")
        found[one.name] = one
    return list(found.values())


def missing_folders(deployments: Sequence[Deployment]) -> list[str]:
    """A sentence for each deployment whose folder does not exist."""
    return [
        f"{one.name}: there is no folder {display_path(one.folder)}, so that no photo is of this deployment; "
        "correct the folder, which is absolute or relative to an indexed folder"
        for one in deployments
        if one.folder is not None and not os.path.isdir(one.folder)  # noqa: PTH112 bytes
    ]


def _deployment(values: Mapping[str, str], roots: Sequence[bytes]) -> Deployment:
    return Deployment(
        name=values["name"],
        site=values["site"] or values["name"],
        folder=_absolute(values["folder"], roots) if values["folder"] else None,
        camera=values["camera"] or None,
        starts_at=values["starts_at"] or None,
        ends_at=values["ends_at"] or None,
        latitude=_number(values["latitude"], "latitude"),
        longitude=_number(values["longitude"], "longitude"),
    )


def _number(text: str, what: str) -> float | None:
    if not text:
        return None
    try:
        # Where the separator is a semicolon, decimals have a comma.
        value = float(text.replace(",", "."))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InvalidInputError(f"the {what} {text!r} is not a number of degrees")
    return value


def _absolute(text: str, roots: Sequence[bytes]) -> bytes:
    # As bytes, which Path does not take. Tables from Windows have back slashes.
    names = [os.path.expanduser(os.fsencode(each)) for each in (text, text.replace("\\", "/"))]  # noqa: PTH111
    places = [os.path.join(root, name) for name in names for root in (*roots, b"")]  # noqa: PTH118
    found = next((path for path in places if os.path.isdir(path)), names[-1])  # noqa: PTH112
    return os.path.normpath(os.path.abspath(found))  # noqa: PTH100


def deployments_from_folders(frames: Frames, roots: Sequence[bytes], level: int) -> list[Deployment]:
    """A deployment for each folder at a depth below the roots that holds photos.

    Args:
        frames: The photos.
        roots: Indexed folders; a photo counts below the innermost that holds it.
        level: 1 for the folders right in a root, 2 for those in them, and so on.

    Returns:
        Deployments in order of their folders. The site is the folder's name, the deployment's name its path
        below the root, with the root's own name before it where two roots have the same.

    Raises:
        InvalidInputError: The level is below 1, or no folder with photos is so deep.
    """
    if level < 1:
        raise InvalidInputError(f"the level is {level}; 1 is the folders right in an indexed folder")
    ordered = sorted((root.rstrip(b"/") for root in roots), key=len, reverse=True)
    found: dict[bytes, tuple[bytes, str, str]] = {}
    for folder in frames.folder_names:
        root = next((one for one in ordered if folder.startswith(one + b"/")), None)
        parts = [] if root is None else folder[len(root) + 1 :].split(b"/")
        if root is not None and len(parts) >= level:
            own = parts[:level]
            path = b"/".join([root, *own])
            found[path] = (root, display_path(b"/".join(own)), display_path(own[-1]))
    if not found:
        raise InvalidInputError(
            f"no folder with photos is {level} below an indexed folder; try a lower level"
        )
    names = Counter(name for _, name, _ in found.values())
    return [
        Deployment(
            name if names[name] == 1 else f"{display_path(root.rpartition(b'/')[2])}/{name}", site, path
        )
        for path, (root, name, site) in sorted(found.items())
    ]


# -- in the catalog ----------------------------------------------------------------------------------------


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
    """The deployments of a catalog, by name."""
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
