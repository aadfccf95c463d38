"""`birdsearch roots`: the indexed folders, and telling the catalog that one of them moved."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from birdsearch.cli.dedup_review import bar
from birdsearch.cli.output import catalog_option, emit, format_option, write_json, write_rows

__all__ = ["roots"]


@click.group(invoke_without_command=True, short_help="List the indexed folders; say that one has moved.")
@catalog_option
@format_option
@click.pass_context
def roots(ctx: click.Context, /, catalog: Path, fmt: str) -> None:
    """List the indexed folders: whether each is there, its files, and its photos that have no file elsewhere.

    \b
    birdsearch roots                                  the folders
    birdsearch roots move /mnt/old /mnt/new           look whether the files are in the new place
    birdsearch roots move /mnt/old /mnt/new --apply   and use that from now on
    """  # noqa: D301 click takes the backspace for a paragraph that is not to be wrapped
    if ctx.invoked_subcommand is not None:
        if any(
            ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE for name in ctx.params
        ):
            raise click.UsageError(f"options of `{ctx.invoked_subcommand}` go after its name")
        return
    from birdsearch.display_path import display_path
    from birdsearch.indexer.catalog.roots import root_states
    from birdsearch.indexer.catalog.store import CatalogStore

    with CatalogStore.open(catalog) as store:
        states = root_states(store)
    rows: list[dict[str, object]] = [
        {
            "folder": display_path(state.path),
            "there": state.there,
            "files": state.files,
            "photos_only_here": state.only_here,
        }
        for state in states
    ]
    if fmt == "json":
        write_json(rows)
        return
    if fmt == "table":
        rows = [row | {"there": "yes" if row["there"] else "NO"} for row in rows]
    titles = ("Folder", "There", "Files", "Photos only here")
    keys = ("folder", "there", "files", "photos_only_here")
    write_rows(rows, list(zip(keys, titles if fmt == "table" else keys, strict=True)), fmt)


@roots.command("move", short_help="Say where the files of a folder are now.")
@click.argument("old", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--apply", is_flag=True, help="Change the catalog; without it, only look.")
@catalog_option
@format_option
def move(old: Path, new: Path, apply: bool, catalog: Path, fmt: str) -> None:
    """Re-home the indexed folder OLD, which is not there any more, to NEW, where its files are now.

    All files are looked for by size, and a sample is read and compared. Nothing is embedded again. Labels,
    clusters, deployments and what `dedup` can undo stay. No photo is touched. Without --apply nothing is changed.
    """
    from birdsearch.display_path import display_path
    from birdsearch.indexer.catalog.root_moves import apply_root_move, plan_root_move
    from birdsearch.indexer.catalog.store import CatalogStore

    opening = (
        CatalogStore.open(catalog, "write", purpose="roots move") if apply else CatalogStore.open(catalog)
    )
    with opening as store:
        with bar("looking", " files") as progress:
            planned = plan_root_move(store, old, new, progress)
        if apply:
            apply_root_move(store, planned)
    shown_old, shown_new = display_path(planned.old), display_path(planned.new)
    row: dict[str, object] = {
        "old": shown_old,
        "new": shown_new,
        "files": planned.files,
        "found": planned.found,
        "compared": planned.compared,
        "indexed_there": planned.known,
        "applied": apply,
    }
    if fmt == "json":
        write_json(row)
        return
    if fmt == "csv":
        write_rows([row], [(key, key) for key in row], fmt)
        return
    emit(
        f"{planned.found} of {planned.files} files of {shown_old} are in {shown_new}; {planned.compared} of them "
        f"were read and are the same; {planned.known} have been indexed there already."
    )
    if not apply:
        command = f"birdsearch roots move {shlex.quote(str(old))} {shlex.quote(str(new))} --apply"
        emit(f"Nothing was changed: `{command}` makes the catalog use {shown_new}.")
        return
    emit(f"The catalog uses {shown_new} from now on.")
    if planned.found < planned.files:
        emit(f"`birdsearch index {shlex.quote(shown_new)}` says which files are missing.")
