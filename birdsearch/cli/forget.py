"""`birdsearch forget`: photos whose files are gone, taken out of the catalog and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from birdsearch.cli.dedup_review import counted
from birdsearch.cli.output import catalog_option, emit, format_option, write_json, write_rows

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.forgetting import Forgettable

__all__ = ["forget"]

_SHOWN = 20


@click.group(invoke_without_command=True, short_help="Forget photos whose files are gone; undoable.")
@catalog_option
@click.option(
    "--photo", "photos", metavar="ID", multiple=True, type=click.IntRange(min=1), help="Only this photo."
)
@click.option("--under", metavar="DIR", multiple=True, help="Only photos that were last in this folder.")
@click.option(
    "--away",
    is_flag=True,
    help="Also photos of indexed folders that are not there now, as on an unmounted disk.",
)
@click.option("--apply", is_flag=True, help="Forget them; without it, only say which.")
@format_option
@click.pass_context
def forget(
    ctx: click.Context,
    /,
    catalog: Path,
    photos: tuple[int, ...],
    under: tuple[str, ...],
    away: bool,
    apply: bool,
    fmt: str,
) -> None:
    """Take photos that have no file any more out of the catalog, with their vectors, labels and all else.

    Without --apply nothing is changed. The catalog keeps aside what it forgot, and `forget undo` brings it back. A
    photo that has a file, one of a folder that is not there, and one that is in quarantine are left alone.

    \b
    birdsearch forget                            which photos have no file
    birdsearch forget --under ./2019 --apply     forget those that were there
    birdsearch forget undo                       bring them back
    """  # noqa: D301 click takes the backspace for a paragraph that is not to be wrapped
    if ctx.invoked_subcommand is not None:
        if any(
            ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in ctx.params
        ):
            raise click.UsageError(f"options of `{ctx.invoked_subcommand}` go after its name")
        return
    from birdsearch.indexer.catalog.forgetting import find_forgettable
    from birdsearch.indexer.catalog.forgetting import forget as take_out
    from birdsearch.indexer.catalog.store import CatalogStore

    opening = CatalogStore.open(catalog, "write", purpose="forget") if apply else CatalogStore.open(catalog)
    with opening as store:
        found = find_forgettable(store, photos or None, under, with_away=away)
        run_id = take_out(store, found) if apply and found.photo_ids else None
    _write(found, run_id, fmt)
    _summary(found, run_id)


def _write(found: Forgettable, run_id: int | None, fmt: str) -> None:
    from birdsearch.display_path import display_path

    rows: list[dict[str, object]] = [
        {
            "photo_id": photo_id,
            "labelled": photo_id in found.labelled,
            "path": display_path(found.paths[photo_id]),
        }
        for photo_id in found.photo_ids
    ]
    if fmt == "json":
        write_json(
            {
                "run": run_id,
                "photos": rows,
                "left_out_away": found.away,
                "left_out_quarantined": found.quarantined,
            }
        )
    elif fmt == "csv":
        write_rows(rows, [(key, key) for key in ("photo_id", "labelled", "path")], fmt)
    elif rows:
        shown = [row | {"labelled": "yes" if row["labelled"] else None} for row in rows[:_SHOWN]]
        write_rows(shown, [("photo_id", "Photo"), ("labelled", "Verified"), ("path", "Was last at")], fmt)
        if len(rows) > _SHOWN:
            emit(f"and {len(rows) - _SHOWN} more; --format csv lists all")


def _summary(found: Forgettable, run_id: int | None) -> None:
    photos = counted(len(found.photo_ids), "photo", "photos")
    labels = f", {len(found.labelled)} of them with a verified label" if found.labelled else ""
    if not found.photo_ids:
        line = "No photo can be forgotten."
    elif run_id is None:
        line = (
            f"{photos} without a file could be forgotten{labels}. Nothing was changed: --apply forgets them."
        )
    else:
        line = f"{photos} forgotten{labels}; `birdsearch forget undo {run_id}` brings them back."
    click.echo(line, err=True)
    if found.away:
        left = counted(found.away, "photo", "photos")
        click.echo(
            f"{left} left alone: a folder of theirs is not there (see `birdsearch roots`); --away takes them too",
            err=True,
        )
    if found.quarantined:
        left = counted(found.quarantined, "photo", "photos")
        click.echo(f"{left} left alone: in quarantine, or kept for one; `birdsearch dedup undo`", err=True)


@forget.command("undo", short_help="Bring back what a run forgot.")
@click.argument("run", metavar="[RUN]", required=False, type=click.IntRange(min=1))
@catalog_option
@format_option
def undo(run: int | None, catalog: Path, fmt: str) -> None:
    """Bring back the photos that RUN forgot, or the last run that did.

    One that was indexed again meanwhile gets back all that was known of it.
    """
    from birdsearch.indexer.catalog.forgetting import undo_forget
    from birdsearch.indexer.catalog.store import CatalogStore

    with CatalogStore.open(catalog, "write", purpose="forget undo") as store:
        done = undo_forget(store, run)
    row: dict[str, object] = {
        "undone_run": done.undone_run_id,
        "restored": len(done.restored),
        "joined": len(done.joined),
    }
    if fmt == "json":
        write_json(row)
    elif fmt == "csv":
        write_rows([row], [(key, key) for key in row], fmt)
    else:
        back = counted(len(done.restored), "photo is", "photos are")
        joined = f"; {len(done.joined)} had been indexed again meanwhile" if done.joined else ""
        emit(f"run {done.undone_run_id}: {back} back with all that was known{joined}")
