"""`birdsearch deployments`: which camera stood where, from when to when."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from birdsearch.cli.annotate_review import text_of, warn
from birdsearch.cli.output import Column, catalog_option, format_option, write_rows
from birdsearch.cli.where import exact_places_option, sensitive_photos

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.deployments import Deployment
    from birdsearch.indexer.catalog.frames import Frames
    from birdsearch.indexer.catalog.store import CatalogStore

__all__ = ["deployments"]

_COLUMNS: list[Column] = [
    ("name", "Deployment"),
    ("site", "Site"),
    ("photos", "Photos"),
    ("start", "Start"),
    ("end", "End"),
    ("latitude", "Latitude"),
    ("longitude", "Longitude"),
    ("coarse", "Coarse"),
    ("camera", "Camera"),
    ("folder", "Folder"),
]


@click.group(
    short_help="Which camera stood where, from when to when.",
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option(
    "--from-folders",
    "level",
    metavar="LEVEL",
    type=click.IntRange(min=1),
    help="Make a deployment and site of each folder so deep below an indexed one; 1 is right in it.",
)
@catalog_option
@click.pass_context
def deployments(context: click.Context, level: int | None, catalog: Path) -> None:
    """Tell which camera stood at which site, from when to when, so that sightings have a place.

    \b
    birdsearch deployments import sites.csv      columns: deployment, site, folder or camera, start, end,
                                                 latitude, longitude; or a Camtrap DP's deployments.csv
    birdsearch deployments --from-folders 2      a site for each folder of the second level
    """  # noqa: D301 click takes the backspace for a paragraph that is not to be wrapped
    if level is None:
        if context.invoked_subcommand is None:
            click.echo(context.get_help())
        return
    if context.invoked_subcommand is not None:
        raise click.UsageError("--from-folders stands alone")
    from birdsearch.indexer.catalog.deployments import store_deployments
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.sightings.deployments import deployments_from_folders

    with CatalogStore.open(catalog, "edit", purpose="birdsearch deployments") as store:
        roots = [root for _, root in store.roots()]
        found = deployments_from_folders(_all_frames(store), roots, level)
        done = store_deployments(store, found, "deployments from folders")
        click.echo(f"{done.added} deployments added, {done.updated} changed, {done.unchanged} as they were")
        _list(store, "table", exact_places=False)


@deployments.command("import", short_help="Read a table of deployments, CSV.")
@click.argument("table", metavar="FILE.csv", type=click.Path(path_type=Path, dir_okay=False))
@catalog_option
@format_option
def import_table(table: Path, catalog: Path, fmt: str) -> None:
    """Read a table of deployments; one of a known name takes the place of what was known.

    Commas, semicolons or tabs may separate its columns. A deployment needs a name and a folder or a camera. A
    relative folder is looked for in the indexed ones; one that does not exist is said. Times are those of the
    camera's clock, unless they tell an offset from UTC.
    """
    from birdsearch.indexer.catalog.deployments import store_deployments
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.sightings.deployments import missing_folders, parse_deployments

    text = text_of(table)
    with CatalogStore.open(catalog, "edit", purpose="birdsearch deployments") as store:
        found = parse_deployments(text, str(table), [root for _, root in store.roots()])
        done = store_deployments(store, found, "deployments import")
        warn(missing_folders(found))
        if fmt == "table":
            click.echo(
                f"{done.added} deployments added, {done.updated} changed, {done.unchanged} as they were"
            )
        _list(store, fmt, exact_places=False)


@deployments.command("list", short_help="List the deployments and how many photos are of each.")
@exact_places_option
@catalog_option
@format_option
def list_all(exact_places: bool, catalog: Path, fmt: str) -> None:
    """List the deployments, how many photos are of each, and what keeps photos from having one.

    Where a photo of a site would tell where a sensitive species is, the positions of the site's deployments are
    coarsened.
    """
    from birdsearch.indexer.catalog.store import CatalogStore

    with CatalogStore.open(catalog) as store:
        _list(store, fmt, exact_places=exact_places)


@deployments.command("remove", short_help="Forget deployments.")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@catalog_option
def remove(names: tuple[str, ...], catalog: Path) -> None:
    """Forget deployments. Photos and stored events stay as they are, without their deployment."""
    from birdsearch.indexer.catalog.deployments import remove_deployments
    from birdsearch.indexer.catalog.store import CatalogStore

    with CatalogStore.open(catalog, "edit", purpose="birdsearch deployments") as store:
        count = remove_deployments(store, names)
    click.echo(f"{count} deployments removed")


def _all_frames(store: CatalogStore) -> Frames:
    from birdsearch.indexer.catalog.frames import all_photo_ids, read_frames

    return read_frames(store, all_photo_ids(store))


def _list(store: CatalogStore, fmt: str, *, exact_places: bool) -> None:
    import numpy as np

    from birdsearch.indexer.catalog.deployments import read_deployments
    from birdsearch.search.query.deployed import assign
    from birdsearch.search.query.location_privacy.coarsening import hidden_sites

    frames = _all_frames(store)
    assignment = assign(read_deployments(store), frames)
    told = sensitive_photos(store, exact_places=exact_places)
    hidden = frozenset[str]() if told is None else hidden_sites(assignment, frames.photo_ids, told)
    counts = np.bincount(assignment.codes[assignment.codes >= 0], minlength=len(assignment.deployments))
    for conflict in assignment.conflicts:
        click.echo(f"Warning: {conflict}", err=True)
    if not assignment.deployments and fmt == "table":
        click.echo("no deployments; see `birdsearch deployments --help`")
        return
    rows = [
        _row(one, int(count), is_coarse=one.site in hidden)
        for one, count in zip(assignment.deployments, counts, strict=True)
    ]
    write_rows(rows, _COLUMNS if fmt == "table" else [(key, key) for key, _ in _COLUMNS], fmt)


def _row(one: Deployment, photos: int, *, is_coarse: bool) -> dict[str, object]:
    from birdsearch.display_path import display_path
    from birdsearch.search.query.location_privacy.coarsening import coarse_place

    latitude, longitude = one.latitude, one.longitude
    if is_coarse:
        latitude, longitude = coarse_place(latitude, longitude)
    return {
        "name": one.name,
        "site": one.site,
        "photos": photos,
        "start": one.starts_at,
        "end": one.ends_at,
        "latitude": latitude,
        "longitude": longitude,
        "coarse": is_coarse and latitude is not None,
        "camera": one.camera,
        "folder": None if one.folder is None else display_path(one.folder),
    }
