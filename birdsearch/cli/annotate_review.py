"""`birdsearch annotate list`, `undo` and `taxa`: what was recorded, taking it back, and the taxa it names."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.output import Column, catalog_option, emit, format_option, write_json, write_rows

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.annotations import UndoSummary
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.catalog.verified_labels import VerifiedLabel

__all__ = ["list_labels", "photo_paths", "taxa", "text_of", "undo", "warn"]

_VERDICTS = ("positive", "negative", "uncertain")

_LISTED: list[Column] = [
    ("photo_id", "Id"),
    ("path", "Photo"),
    ("taxon", "Taxon"),
    ("scientific_name", "Scientific name"),
    ("verdict", "Verdict"),
    ("who", "Who"),
    ("at", "When"),
    ("source", "From"),
]
_HISTORY: list[Column] = [
    ("photo_id", "Id"),
    ("path", "Photo"),
    ("taxon", "Taxon"),
    ("verdict", "Verdict"),
    ("who", "Who"),
    ("at", "When"),
    ("source", "From"),
    ("run", "Run"),
    ("in_force", "In force"),
    ("undone_by", "Undone by"),
]
_TAXA: list[Column] = [
    ("common_name", "Name"),
    ("scientific_name", "Scientific name"),
    ("genus", "Genus"),
    ("family", "Family"),
    ("order", "Order"),
    ("photos", "Photos"),
]


def photo_paths(store: CatalogStore, photo_ids: set[int]) -> dict[int, str]:
    """Return the paths of photos, escaped for people, by photo id."""
    from birdsearch.display_path import display_path

    return {photo.id: display_path(photo.path) for photo in store.photos(sorted(photo_ids)).values()}


def text_of(path: Path) -> str:
    """Read a table in any of the known encodings; a guess is printed on stderr.

    Raises:
        InvalidInputError: It cannot be read or is no text.
    """
    from birdsearch.csv_table import decoded_table, table_bytes

    text, _, notes = decoded_table(table_bytes(path), path)
    warn(notes)
    return text


def warn(warnings: Sequence[str]) -> None:
    """Print warnings on stderr."""
    for warning in warnings:
        click.echo(f"Warning: {warning}", err=True)


@click.command("list", short_help="Show the labels that count, or all that ever were.")
@click.argument("photos", metavar="[PHOTO...]", nargs=-1)
@click.option("--history", is_flag=True, help="Also those that were replaced or undone, with their runs.")
@click.option("--verdict", type=click.Choice(_VERDICTS), help="Only these.")
@catalog_option
@format_option
def list_labels(photos: tuple[str, ...], history: bool, verdict: str | None, catalog: Path, fmt: str) -> None:
    """Show the labels of each PHOTO (a file, or "#12"), or all of the catalog's."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.catalog.verified_labels import history as every_label
    from birdsearch.indexer.catalog.verified_labels import labels_in_force
    from birdsearch.search.annotate.photos import find_stored

    lost = 0
    with CatalogStore.open(catalog) as store:
        wanted = {find_stored(store, photo) for photo in photos}
        entries: list[tuple[VerifiedLabel, dict[str, object]]]
        if history:
            entries = [
                (
                    entry.label,
                    {
                        "run": entry.run_id,
                        "in_force": entry.in_force,
                        "replaces": entry.replaces,
                        "undone_by": entry.undone_run_id,
                    },
                )
                for entry in every_label(store)
            ]
        else:
            entries = [(label, {}) for label in labels_in_force(store, None, with_lost=True)]
        entries = [
            (label, more)
            for label, more in entries
            if (not photos or label.photo_id in wanted) and verdict in (None, label.verdict)
        ]
        paths = photo_paths(store, {label.photo_id for label, _ in entries})
        if not history:
            live = {label.annotation_id for label in labels_in_force(store, None)}
            lost = sum(label.annotation_id not in live for label, _ in entries)
    if lost:
        click.echo(
            f"Note: {lost} of these labels are of photos without a file: they are kept and take no part until "
            "`birdsearch index` finds the file again",
            err=True,
        )
    rows: list[dict[str, object]] = [
        {
            "annotation_id": label.annotation_id,
            "photo_id": label.photo_id,
            "view_id": label.view_id,
            "path": paths[label.photo_id],
            "taxon": label.name,
            "scientific_name": label.scientific_name,
            "genus": label.genus,
            "family": label.family,
            "order": label.order,
            "verdict": label.verdict,
            "who": label.who,
            "at": label.at,
            "source": label.source,
            **more,
        }
        for label, more in entries
    ]
    if not rows and fmt == "table":
        click.echo("no labels; `birdsearch annotate --help` shows how to record some")
        return
    columns = _HISTORY if history else _LISTED
    if fmt != "table":
        keys = ["annotation_id", "photo_id", "view_id", "path", "taxon", "scientific_name", "genus", "family"]
        keys += ["order", "verdict", "who", "at", "source"]
        keys += ["run", "in_force", "replaces", "undone_by"] if history else []
        columns = [(key, key) for key in keys]
    write_rows(rows, columns, fmt)


@click.command("undo", short_help="Take the labels of a run back.")
@click.argument("run", metavar="[RUN]", required=False, type=click.IntRange(min=1))
@click.option("--dry-run", is_flag=True, help="Show what would be undone; write nothing.")
@catalog_option
@format_option
def undo(run: int | None, dry_run: bool, catalog: Path, fmt: str) -> None:
    """Take back what RUN recorded, or the last run whose labels count.

    What its labels had replaced counts again, unless something else replaced it too. Nothing is deleted: `list
    --history` shows what was undone.
    """
    from birdsearch.indexer.catalog.annotations import undo as take_back
    from birdsearch.indexer.catalog.annotations import undoable
    from birdsearch.indexer.catalog.store import CatalogStore

    mode: Any = "read" if dry_run else "edit"
    with CatalogStore.open(catalog, mode, purpose="birdsearch annotate") as store:
        summary = undoable(store, run) if dry_run else take_back(store, run)
    if fmt == "table":
        emit(_undo_line(summary))
    else:
        keys = ("run", "undone_run", "at", "source", "undone", "restored")
        row = dict(zip(keys, dataclasses.astuple(summary), strict=True))
        if fmt == "json":
            write_json(row)
        else:
            write_rows([row], [(key, key) for key in keys], fmt)


def _undo_line(summary: UndoSummary) -> str:
    labels = f"{summary.undone} label{'' if summary.undone == 1 else 's'}"
    of = f"run {summary.undone_run_id} ({summary.source}, {summary.at})"
    again = f"{summary.restored} earlier in force again"
    if summary.run_id is None:
        return f"{of} would be undone: {labels} taken back, {again}; nothing was written"
    return f"{of} undone by run {summary.run_id}: {labels} taken back, {again}"


@click.command("taxa", short_help="Add a table of taxa; show those that the catalog has.")
@click.argument("file", metavar="[FILE.csv]", required=False, type=click.Path(path_type=Path, dir_okay=False))
@catalog_option
@format_option
def taxa(file: Path | None, catalog: Path, fmt: str) -> None:
    """Add the taxa of FILE.csv to those that birdsearch knows, or show what the catalog itself has.

    Needed columns are `common_name`, `scientific_name`, `family` and `order`, of which only the first must have
    values; `genus` and `alternative_names` (between semicolons) may be there. Commas, semicolons or tabs may
    separate them. A taxon that is known by its common name becomes what the table says.
    """
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.catalog.taxa import add_taxa, own_taxa
    from birdsearch.indexer.catalog.verified_labels import labels_in_force

    if file is not None:
        text = text_of(file)
        with CatalogStore.open(catalog, "edit", purpose="birdsearch annotate") as store:
            summary = add_taxa(store, text, str(file))
        warn(summary.warnings)
        if fmt == "json":
            write_json(dataclasses.asdict(summary))
        elif fmt == "csv":
            keys = ("run_id", "added", "updated", "unchanged")
            write_rows([dataclasses.asdict(summary)], [(key, key) for key in keys], fmt)
        else:
            emit(f"{summary.added} names added, {summary.updated} updated, {summary.unchanged} known just so")
        return
    with CatalogStore.open(catalog) as store:
        found = own_taxa(store)
        photos = Counter(label.name for label in labels_in_force(store))
    rows: list[dict[str, object]] = [
        {
            "common_name": taxon.common_name,
            "scientific_name": taxon.scientific_name,
            "genus": taxon.genus,
            "family": taxon.family,
            "order": taxon.order,
            "photos": photos[taxon.common_name],
        }
        for taxon in found
    ]
    if not rows and fmt == "table":
        click.echo("no taxa of its own: no label was recorded and no table of taxa was added")
        return
    write_rows(rows, _TAXA, fmt)
