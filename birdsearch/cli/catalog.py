"""`birdsearch status`, `check` and `rebuild`: the state of a catalog, its verification, its repair."""

from __future__ import annotations

import dataclasses
import sqlite3
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.output import catalog_option, emit, format_option, printable, write_json, write_rows

if TYPE_CHECKING:
    from tqdm import tqdm

    from birdsearch.indexer.catalog.records import FailureRecord
    from birdsearch.indexer.catalog.snapshots import SnapshotRecord

__all__ = ["check", "rebuild", "status"]

# So many files of one reason are named without being asked for.
_FEW = 3


@click.command(short_help="Show what the catalog holds and what failed.")
@catalog_option
@click.option("--failures", is_flag=True, help="Say why files could not be indexed, and what to do about it.")
@click.option("--verbose", is_flag=True, help="With --failures: list every file with its own reason.")
@format_option
def status(catalog: Path, failures: bool, verbose: bool, fmt: str) -> None:
    """Show what the catalog holds: photos, folders, the model, and what failed.

    With --failures, files that failed for one reason are one line; json and csv list every file.
    """
    from birdsearch.display_path import display_path
    from birdsearch.indexer.catalog.connection import sqlite_note
    from birdsearch.indexer.catalog.roots import absent_roots, root_states
    from birdsearch.indexer.catalog.runs import vector_settings
    from birdsearch.indexer.catalog.snapshots import newest_snapshot
    from birdsearch.indexer.catalog.store import CatalogStore

    with CatalogStore.open(catalog) as store:
        if failures:
            _write_failures(store.failures(), fmt, verbose=verbose)
            return
        counts, model, roots = store.counts(), store.active_model(), store.roots()
        gone = {state.path for state in root_states(store, only_absent=True)}
        away = absent_roots(store)
        made = [] if model is None else vector_settings(store, model.id)
        search = None if model is None else newest_snapshot(store, model.id)
    for line in away:
        click.echo(f"Warning: {line}", err=True)
    folders = [display_path(path) for _, path in roots]
    if fmt == "json":
        known = {"name": model.name, "sha256": model.sha256, "classes": len(model.classes)} if model else None
        write_json(
            {
                "catalog": str(catalog),
                "model": known,
                "folders": folders,
                "folders_away": [display_path(path) for _, path in roots if path in gone],
                **dataclasses.asdict(counts),
                "search": None
                if search is None
                else {"vectors": search.count, "lists": search.lists, "recall": search.recall},
                "made_with": [dataclasses.asdict(way) for way in made],
                "sqlite": {"version": sqlite3.sqlite_version, "note": sqlite_note()},
            }
        )
        return
    rows: list[tuple[str, object]] = [("catalog", str(catalog))]
    if model is not None:
        rows += [("model", model.name), ("model sha256", model.sha256), ("classes", len(model.classes))]
    rows += [
        ("folder that is not there" if path in gone else "folder", display_path(path)) for _, path in roots
    ]
    rows += [
        ("photos", counts.photos),
        ("photos missing", counts.missing_photos),
        ("files", counts.files),
        *([("files not there now", counts.files_away)] if counts.files_away or fmt != "table" else []),
        ("files missing", counts.missing_files),
        ("vectors", counts.embeddings),
        *([("search", _searched(search))] if search is not None else []),
        # Vectors of one kind need no word; where kinds are mixed, similarities may differ a little by it.
        *(("made by", f"{_shown(way.settings)}: {way.vectors}") for way in made if len(made) > 1),
        ("size", f"{counts.bytes / 1e6:.1f} MB" if fmt == "table" else counts.bytes),
    ]
    rows += [(f"failed: {code}", count) for code, count in counts.failures.items()]
    write_rows(
        [{"what": what, "value": value} for what, value in rows],
        [("what", "What"), ("value", "Value")],
        fmt,
    )


def _write_failures(failures: Sequence[FailureRecord], fmt: str, *, verbose: bool) -> None:
    from birdsearch.display_path import display_path
    from birdsearch.indexer.failures import advice, group_failures

    if fmt != "table":
        listed: list[dict[str, object]] = [
            {
                "path": display_path(failure.path),
                "stage": failure.stage,
                "code": failure.code,
                "reason": failure.reason,
                "advice": advice(failure.code, transient=failure.transient),
            }
            for failure in failures
        ]
        write_rows(listed, [(key, key) for key in ("path", "stage", "code", "reason", "advice")], fmt)
        return
    if not failures:
        emit("No file failed.")
    groups = group_failures(failures)
    for group in groups:
        emit(printable(group.line()))
        for failure in group.failures if verbose or len(group.failures) <= _FEW else ():
            own = "" if failure.reason == group.reason else f": {failure.reason}"
            emit(printable(f"  {display_path(failure.path)}{own}"))
    if not verbose and any(len(group.failures) > _FEW for group in groups):
        emit("\nEvery file: add --verbose, or --format csv")


def _searched(state: SnapshotRecord) -> str:
    """Describe on one line how vectors are searched."""
    if not state.lists:
        return "exact"
    return f"in {state.lists} lists, recall {state.recall:.3f}"


def _shown(settings: Mapping[str, Any]) -> str:
    """Describe on one line how vectors were made."""
    if not settings:
        return "settings that were not recorded"
    versions = ", ".join(f"{name} {version}" for name, version in settings["versions"].items())
    runtime = f"{settings['runtime']} in {settings['precision']} on {settings['device']}"
    return f"{runtime}, {settings['decode']} decoding ({versions})"


@click.command(short_help="Verify database, vectors and index.")
@catalog_option
@click.option("--files", is_flag=True, help="Read every photo again and compare its hash.")
@format_option
def check(catalog: Path, files: bool, fmt: str) -> None:
    """Verify the database, every stored vector and the vector index; exit 1 if anything is wrong."""
    from tqdm import tqdm

    from birdsearch.indexer.catalog.connection import sqlite_note
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.verify import check_catalog

    _say_sqlite(sqlite_note())
    bar: tqdm[None] = tqdm(desc="checking", unit=" items", disable=not sys.stderr.isatty(), leave=False)
    with CatalogStore.open(catalog) as store, bar:
        report = check_catalog(store, files=files, progress=lambda done: _advance(bar, done))
    rows: list[dict[str, object]] = [
        {"part": problem.part, "where": problem.where, "problem": problem.what} for problem in report.problems
    ]
    if rows or fmt != "table":
        write_rows(rows, [("part", "Part"), ("where", "Where"), ("problem", "Problem")], fmt)
    if fmt == "table":
        hashed = f" and {report.files} files" if files else ""
        click.echo(f"{report.vectors} vectors{hashed} verified, {len(rows)} problems")
    if rows:
        sys.exit(1)


def _say_sqlite(note: str | None) -> None:
    """Print what is to be known of this version of SQLite, on stderr."""
    if note is not None:
        click.echo(f"Note: {note}", err=True)


def _advance(bar: tqdm[None], done: int) -> None:
    bar.update(done - bar.n)


@click.command(short_help="Make the vector index anew.")
@catalog_option
def rebuild(catalog: Path) -> None:
    """Make the vector index anew from the stored vectors; drop vectors that are damaged."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.verify import rebuild_catalog

    with CatalogStore.open(catalog, "write", purpose="birdsearch rebuild") as store:
        report = rebuild_catalog(store)
    click.echo(f"Vector index made anew: {report.vectors} vectors.")
    for path in report.dropped:
        click.echo(f"Dropped a damaged vector: {path}")
    if report.dropped:
        click.echo("`birdsearch index` embeds the dropped photos again.")
