"""`birdsearch dedup`: copies and near-copies, moving them to quarantine, and what a person says about them."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.annotate_review import warn
from birdsearch.cli.dedup_review import (
    bar,
    counted,
    finishing_the_file,
    list_rejected,
    refusals,
    reject,
    undo,
)
from birdsearch.cli.labelling import model_in_use
from birdsearch.cli.output import Column, catalog_option, emit, format_option, write_json, write_rows
from birdsearch.cli.where import build_where, sensitive_photos, where_options
from birdsearch.size_text import size_text

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.filters import Where
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.dedup.find import CopyFile, CopyGroup, DedupOptions, DedupResult
    from birdsearch.search.dedup.quarantine import ApplyReport

__all__ = ["dedup"]

_TABLE: list[Column] = [
    ("group", "Group"),
    ("what", "What"),
    ("similarity", "Alike %"),
    ("size", "Size"),
    ("reason", "Why"),
    ("path", "Path"),
]
_CSV: list[Column] = [
    (key, key)
    for key in (
        *("group", "kind", "role", "similarity", "reason", "bytes", "bytes_freed", "width", "height"),
        *("photo_id", "path", "links"),
    )
]
_ROLE_NAMES = {"keep": "keep", "move": "copy", "reference": "reference", "linked": "hard link"}


@click.group(invoke_without_command=True, short_help="Find copies and near-copies; move them to quarantine.")
@catalog_option
@click.option("--apply", is_flag=True, help="Move all but the kept file of each group to quarantine.")
@click.option(
    "--quarantine",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where --apply moves files to.  [default: the folder `quarantine` in the catalog's]",
)
@click.option(
    "--keep",
    metavar="RULES",
    help="Which file is kept: a ranked list of resolution, sharpness, original-format, labels, metadata, name, "
    "size, oldest and path:GLOB.  [default: resolution,original-format,labels,metadata,name,size,oldest]",
)
@click.option(
    "--reference", metavar="DIR", multiple=True, help="Never move files in this folder. May be repeated."
)
@click.option("--across-folders", is_flag=True, help="Only groups whose files lie in more than one folder.")
@click.option(
    "--only", type=click.Choice(["new"]), help="Only groups with a photo that the last `index` run added."
)
@click.option("--rotations", is_flag=True, help="Also find copies that were turned.")
@click.option(
    "--min-similarity",
    metavar="X",
    type=click.FloatRange(0, 1),
    help="How alike near-copies have to be, 0..1.",
)
@click.option(
    "--sheet",
    metavar="FILE.html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write a page that shows the groups.",
)
@where_options
@format_option
@click.pass_context
def dedup(ctx: click.Context, /, **options: Any) -> None:
    """Find files that show the same picture, and say which of each group to keep and why.

    Nothing is changed without --apply, which moves the others to quarantine; `dedup undo` brings them back. Frames
    of a burst, RAW+JPEG and HEIC+JPEG pairs and hard links are no copies.

    \b
    birdsearch dedup                         what there is
    birdsearch dedup --only new              what of the last import was there already
    birdsearch dedup --reference ./archive   never move what is in the archive
    birdsearch dedup reject a.jpg b.jpg      these two are no copies
    birdsearch dedup --apply                 move the copies
    birdsearch dedup undo                    move them back
    """  # noqa: D301 click takes the backspace for a paragraph that is not to be wrapped
    if ctx.invoked_subcommand is not None:
        given = [
            name
            for name in options
            if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
        ]
        if given:
            raise click.UsageError(f"options of `{ctx.invoked_subcommand}` go after its name")
        return
    _dedup(**options)


for _command in (undo, reject, list_rejected):
    dedup.add_command(_command)


def _dedup(
    catalog: Path,
    apply: bool,
    quarantine: Path | None,
    keep: str | None,
    reference: tuple[str, ...],
    across_folders: bool,
    only: str | None,
    rotations: bool,
    min_similarity: float | None,
    sheet: Path | None,
    exact_places: bool,
    fmt: str,
    **conditions: Any,
) -> None:
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.dedup.copies import CopyRules
    from birdsearch.search.dedup.find import DedupOptions
    from birdsearch.search.dedup.keep import KeepRules
    from birdsearch.search.dedup.quarantine import apply_groups

    if quarantine is not None and not apply:
        raise click.UsageError("--quarantine says where --apply moves files to; give both")
    rules: dict[str, Any] = {"rotations": rotations}
    if min_similarity is not None:
        rules["min_similarity"] = min_similarity
    options = DedupOptions(
        rules=CopyRules(**rules),
        keep=KeepRules() if keep is None else KeepRules.parse(keep),
        references=reference,
        across_folders=across_folders,
        only_new=only == "new",
    )
    where = build_where(**conditions)
    if not apply:
        with CatalogStore.open(catalog) as store:
            where = replace(where, coarse_by=sensitive_photos(store, exact_places=exact_places))
            result = _find(store, options, where, sheet)
        _write(result, fmt, None)
        _summary(result)
        return
    with CatalogStore.open(catalog, "write", purpose="dedup --apply") as store:
        where = replace(where, coarse_by=sensitive_photos(store, exact_places=exact_places))
        result = _find(store, options, where, sheet)
        with finishing_the_file() as stop, bar("moving", " files") as progress:
            report = apply_groups(
                store, result.groups, quarantine, should_stop=lambda: bool(stop), progress=progress
            )
    _write(result, fmt, report)
    _report(result, report)
    stop.go_on_stopping()
    if report.refused:
        sys.exit(1)


def _find(store: CatalogStore, options: DedupOptions, where: Where, sheet: Path | None) -> DedupResult:
    from birdsearch.search.dedup.find import find_copies

    with contextlib.ExitStack() as bars:
        shown: dict[str, Callable[[int, int], None]] = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in shown:
                shown[stage] = bars.enter_context(bar(stage, ""))
            shown[stage](done, total)

        result = find_copies(store, model_in_use(store), options, where, progress)
    warn(result.warnings)
    if sheet is not None:
        # Before anything is moved: the page is there to look at it, and shows the files where they were.
        from birdsearch.search.export.copies_page import write_copies_sheet

        write_copies_sheet(sheet, result.groups)
        click.echo(f"Wrote {sheet}.", err=True)
    return result


# -- what is shown -------------------------------------------------------------------------------------------


def _write(result: DedupResult, fmt: str, report: ApplyReport | None) -> None:
    moved = frozenset() if report is None else frozenset(report.moved)
    if fmt == "json":
        write_json([_as_json(number, group, moved) for number, group in enumerate(result.groups, 1)])
    elif fmt == "csv":
        write_rows(
            [
                _as_row(number, group, file, moved)
                for number, group in enumerate(result.groups, 1)
                for file in group.files
            ],
            _CSV,
            fmt,
        )
    elif result.groups:
        _write_table(result, moved)


def _as_json(number: int, group: CopyGroup, moved: frozenset[bytes]) -> dict[str, object]:
    kept, *others = [_as_row(number, group, file, moved) for file in group.files]
    for file in (kept, *others):
        del file["group"], file["kind"]
    kind = "exact" if group.is_exact else "near"
    return {
        "group": number,
        "kind": kind,
        "bytes_freed": group.movable_bytes,
        "kept": kept,
        "others": others,
    }


def _as_row(number: int, group: CopyGroup, file: CopyFile, moved: frozenset[bytes]) -> dict[str, object]:
    from birdsearch.display_path import display_path

    return {
        "group": number,
        "kind": "exact" if group.is_exact else "near",
        "role": "moved" if file.path in moved else file.role,
        "similarity": round(file.similarity, 4),
        "reason": file.reason,
        "bytes": file.size,
        "bytes_freed": file.size if file.role == "move" else 0,
        "width": file.width,
        "height": file.height,
        "photo_id": file.photo_id,
        "path": display_path(file.path),
        "links": [display_path(path) for path in file.links],
    }


def _write_table(result: DedupResult, moved: frozenset[bytes]) -> None:
    import shutil

    from birdsearch.cli.output import table

    rows: list[Mapping[str, object]] = []
    for number, group in enumerate(result.groups, 1):
        for file in group.files:
            cells = _as_row(number, group, file, moved)
            is_kept = file is group.kept
            cells["group"] = number if is_kept else None
            cells["what"] = "moved" if file.path in moved else _ROLE_NAMES[file.role]
            cells["similarity"] = None if is_kept else int(file.similarity * 100)
            cells["size"] = size_text(file.size)
            rows.append(cells)
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    title, *lines = table(rows, _TABLE, width).split("\n")
    shown = [title]
    # A blank line between groups: who reads thousands of them sees where one ends.
    for row, line in zip(rows, lines, strict=True):
        shown += ["", line] if row["group"] not in (None, 1) else [line]
    emit("\n".join(shown))


def _found_line(result: DedupResult) -> str:
    exact = sum(group.is_exact for group in result.groups)
    line = (
        f"{counted(len(result.groups), 'group', 'groups')} of copies among {result.photos} photos "
        f"({exact} of the same content, {len(result.groups) - exact} near-copies)"
    )
    if result.in_references:
        line += (
            f"; {counted(result.in_references, 'more group lies', 'more groups lie')} within the references"
        )
    return line


def _summary(result: DedupResult) -> None:
    line = _found_line(result)
    if result.movable:
        line += (
            f": {counted(result.movable, 'file', 'files')} could go, {size_text(result.movable_bytes)}.\n"
            "Nothing was moved: --apply moves them to quarantine; `dedup reject A B` says that two are no copies."
        )
    else:
        line += "; nothing could go."
    click.echo(line, err=True)


# -- moving --------------------------------------------------------------------------------------------------


def _report(result: DedupResult, report: ApplyReport) -> None:
    from birdsearch.display_path import display_path

    warn(report.recovered)
    refusals([(display_path(one.path), one.reason) for one in report.refused], "were not moved")
    click.echo(f"{_found_line(result)}.", err=True)
    if not report.moved:
        click.echo("Nothing was moved.", err=True)
        return
    sidecars = f" with {counted(report.sidecars, 'companion', 'companions')}" if report.sidecars else ""
    click.echo(
        f"Moved {counted(len(report.moved), 'file', 'files')}{sidecars}, {size_text(report.moved_bytes)}, to "
        f"{display_path(report.folder)}; `birdsearch dedup undo {report.run_id}` moves them back.",
        err=True,
    )
