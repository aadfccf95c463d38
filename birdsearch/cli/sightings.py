"""`birdsearch sightings` and `similar`: what was seen, once each; and where else the same look was seen."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.labelling import NOT_CALIBRATED, confidence_option, model_in_use
from birdsearch.cli.output import (
    Column,
    catalog_option,
    format_option,
    table_file_option,
    write_json,
    write_rows,
)
from birdsearch.cli.where import build_where, sensitive_photos, where_options

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.sightings.find import FoundSightings

__all__ = ["sightings", "similar"]

_TABLE: list[Column] = [
    ("number", "No."),
    ("label", "Label"),
    ("probability", "p"),
    ("when", "When"),
    ("site", "Site"),
    ("frames", "Frames"),
    ("events", "Events"),
    ("path", "Best photo"),
]
_KEYS = (
    "number name rank probability species unknown verified started_at ended_at site latitude longitude is_coarse "
    "frames photos bursts events cameras photo_id path"
)
_GROUP_TABLE: list[Column] = [
    ("group", "Group"),
    ("when", "When"),
    ("camera", "Camera"),
    ("site", "Site"),
    ("frames", "Frames"),
    ("sightings", "Sightings"),
    ("path", "Sharpest photo"),
]
_GROUP_KEYS = "group started_at ended_at camera site frames photos sightings photo_id path"
_SIMILAR_TABLE: list[Column] = [
    ("rank", "Rank"),
    ("similarity", "Similarity"),
    ("label", "Label"),
    ("away", "Away"),
    ("site", "Site"),
    ("sighting", "Sighting"),
    ("path", "Path"),
]
_SIMILAR_KEYS = "asked rank similarity path photo_id label captured_at site event sighting away_s away_km"


def _columns(keys: str) -> list[Column]:
    return [(key, key) for key in keys.split()]


_SECONDS = click.FloatRange(min=0, max=3.2e9)


@click.command(short_help="Bursts, events and sightings: what was seen, once each.")
@catalog_option
@click.option(
    "--level",
    type=click.Choice(["bursts", "events", "sightings"]),
    default="sightings",
    show_default=True,
    help="What is listed.",
)
@click.option(
    "--burst-gap",
    type=_SECONDS,
    default=1.0,
    show_default=True,
    help="Frames of a burst are closer, in seconds.",
)
@click.option(
    "--event-gap",
    type=_SECONDS,
    default=60.0,
    show_default=True,
    help="Frames of an event are closer, in seconds.",
)
@click.option(
    "--sighting-gap",
    type=_SECONDS,
    default=1800.0,
    show_default=True,
    help="Events of a sighting are at most so many seconds apart.",
)
@confidence_option
@click.option("--dry-run", is_flag=True, help="List only; store nothing.")
@table_file_option("the list")
@where_options
@format_option
def sightings(
    catalog: Path,
    level: str,
    burst_gap: float,
    event_gap: float,
    sighting_gap: float,
    confidence: float,
    exact_places: bool,
    dry_run: bool,
    out: Path | None,
    fmt: str,
    **conditions: Any,
) -> None:
    """Join photos to bursts, events and sightings, and list them.

    A burst is frames of one camera in quick succession, an event frames of one camera with little time between
    them, a sighting the events of one kind of bird at one site in one go. Copies of a photo, and RAW and JPEG of
    one exposure, count once. No picture is read. What was found is stored, so that `birdsearch similar s12` knows
    it; a catalog that cannot be written is only read. --format json says why photos were joined.
    """
    from birdsearch.search.sightings.events import EventRules
    from birdsearch.search.sightings.find import find_sightings
    from birdsearch.search.sightings.parts import SightingRules
    from birdsearch.search.sightings.store import store_sightings

    event_rules = EventRules(burst_gap_s=burst_gap, event_gap_s=event_gap)
    rules = SightingRules(gap_s=sighting_gap)
    where = build_where(**conditions)
    with _opened(catalog, dry_run=dry_run) as store:
        from birdsearch.search.labels.estimator import LabelEstimator

        record = model_in_use(store)
        estimator = LabelEstimator.open(store, record)
        found = find_sightings(
            store,
            record,
            replace(where, coarse_by=sensitive_photos(store, exact_places=exact_places)),
            event_rules,
            rules,
            confidence=confidence,
            exact_places=exact_places,
            estimator=estimator,
        )
        run_id = None
        if store.writable:
            settings = {"burst_gap_s": burst_gap, "event_gap_s": event_gap, "sighting_gap_s": sighting_gap}
            run_id = store_sightings(store, found, settings)
        rows = _rows(store, found, level)
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    keys = _KEYS if level == "sightings" else _GROUP_KEYS
    if fmt == "table":
        click.echo(_summary(found, run_id))
        write_rows([_for_people(row) for row in rows], _TABLE if level == "sightings" else _GROUP_TABLE, fmt)
        if level == "sightings" and len(estimator.space) and not estimator.calibration.is_fitted:
            click.echo(NOT_CALIBRATED)
    elif fmt == "json":
        write_json(rows)
    else:
        write_rows(rows, _columns(keys), fmt)
    if out is not None:
        from birdsearch.search.export.tables import write_table

        write_table(out, rows, keys.split())
        click.echo(f"wrote {out}", err=True)


@contextlib.contextmanager
def _opened(catalog: Path, *, dry_run: bool) -> Iterator[CatalogStore]:
    """Open the catalog, for writing where that is wanted and possible."""
    from birdsearch.errors import CatalogReadOnlyError
    from birdsearch.indexer.catalog.store import CatalogStore

    if not dry_run:
        try:
            store = CatalogStore.open(catalog, "write", purpose="birdsearch sightings")
        except CatalogReadOnlyError as error:
            click.echo(f"Warning: nothing is stored: {error}", err=True)
            store = CatalogStore.open(catalog)
    else:
        store = CatalogStore.open(catalog)
    with store:
        yield store


def _summary(found: FoundSightings, run_id: int | None) -> str:
    from birdsearch.search.sightings.store import counts_of

    counts = counts_of(found)
    stored = "not stored" if run_id is None else f"run {run_id}"
    return (
        f"{counts['photos']} photos, {counts['frames']} of them no copies: {counts['bursts']} bursts, "
        f"{counts['events']} events, {counts['sightings']} sightings ({stored})"
    )


def _rows(store: CatalogStore, found: FoundSightings, level: str) -> list[dict[str, object]]:
    from birdsearch.display_path import display_path
    from birdsearch.search.sightings.levels import list_groups

    if level == "sightings":
        listed = [one.to_dict() for one in found.listed]
    else:
        listed = [one.to_dict() for one in list_groups(found, "bursts" if level == "bursts" else "events")]
    photo_ids: list[Any] = [row["photo_id"] for row in listed]
    photos = store.photos(photo_ids)
    return [
        row | {"path": display_path(photos[photo_id].path)}
        for row, photo_id in zip(listed, photo_ids, strict=True)
    ]


def _for_people(row: Mapping[str, object]) -> dict[str, object]:
    name, rank = row.get("name"), row.get("rank")
    label = name if rank in (None, "species", "bird") else f"{name} ({rank})"
    started, ended = row["started_at"], row["ended_at"]
    return {
        **row,
        "label": label,
        "probability": "verified" if row.get("verified") else _percent(rank, row.get("probability")),
        "when": None if started is None else _when(str(started), str(ended)),
    }


def _percent(rank: object, value: object) -> str | None:
    # That it is a bird is not what was asked.
    return f"{value:.1%}" if isinstance(value, float) and rank != "bird" else None


def _when(started: str, ended: str) -> str:
    """Return a span of time, the day once if it is one: 2023-05-14 06:30:01 - 06:42:17."""
    first, last = started[:19].replace("T", " "), ended[:19].replace("T", " ")
    if first == last:
        return first
    return f"{first} - {last[11:] if first[:10] == last[:10] else last}"


@click.command(short_help="The same look at another time or place.")
@click.argument("asked", metavar="PHOTO|SIGHTING")
@catalog_option
@click.option("-k", default=20, show_default=True, type=click.IntRange(min=0), help="Hits, one an event.")
@click.option("--elsewhere", is_flag=True, help="Only at another site, or more than 1 km away.")
@click.option("--other-time", is_flag=True, help="Only a day or more before or after.")
@where_options
@format_option
def similar(
    asked: str,
    catalog: Path,
    k: int,
    elsewhere: bool,
    other_time: bool,
    exact_places: bool,
    fmt: str,
    **conditions: Any,
) -> None:
    """Find the same look in other events: of each event the frame that is most alike.

    PHOTO is a file, or "#12" for the photo of the catalog with this id; SIGHTING is a number such as s12 that
    `birdsearch sightings` shows, asked by the mean of its photos.
    """
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.sightings.similar import similar as find_similar

    where = build_where(**conditions)
    with CatalogStore.open(catalog) as store:
        model_in_use(store)
        where = replace(where, coarse_by=sensitive_photos(store, exact_places=exact_places))
        result = find_similar(
            store, asked, k, where, elsewhere=elsewhere, other_time=other_time, exact_places=exact_places
        )
    for warning in result.warnings:
        click.echo(f"Warning: {warning}", err=True)
    rows = [{"asked": result.asked} | hit.to_dict() for hit in result.hits]
    if fmt != "table":
        write_rows(rows, _columns(_SIMILAR_KEYS), fmt)
    elif not rows:
        click.echo("no other event looks alike" if where.is_empty else "no photo meets the conditions")
    else:
        shown = [
            row | {"similarity": f"{row['similarity']:.4f}", "away": _away(row["away_s"], row["away_km"])}
            for row in rows
        ]
        write_rows(shown, _SIMILAR_TABLE, fmt)


def _away(seconds: object, kilometres: object) -> str | None:
    """Return how far it is in time and place, such as `12 days, 3.4 km`."""
    parts = []
    if isinstance(seconds, float):
        for unit, size in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0), ("s", 1.0)):
            if seconds >= 2 * size or unit == "s":
                parts.append(f"{seconds / size:.0f} {unit}")
                break
    if isinstance(kilometres, float):
        parts.append(f"{kilometres:.1f} km")
    return ", ".join(parts) or None
