"""Deployments from tables and folders: which camera stood where, from when to when."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence

from birdsearch.csv_table import CsvTable
from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.deployments import Deployment
from birdsearch.indexer.catalog.frames import Frames

__all__ = [
    "deployments_from_folders",
    "missing_folders",
    "parse_deployments",
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
    """Return a sentence for each deployment whose folder does not exist."""
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
    paths = [os.path.join(root, name) for name in names for root in (*roots, b"")]  # noqa: PTH118
    found = next((path for path in paths if os.path.isdir(path)), names[-1])  # noqa: PTH112
    return os.path.normpath(os.path.abspath(found))  # noqa: PTH100


def deployments_from_folders(frames: Frames, roots: Sequence[bytes], level: int) -> list[Deployment]:
    """Make a deployment of each folder at a depth below the roots that holds photos.

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
