"""`birdsearch dedup undo`, `reject` and `rejected`: taking moves back, and what a person says about copies."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from birdsearch.cli.annotate_review import photo_paths, warn
from birdsearch.cli.output import Column, catalog_option, emit, format_option, write_json, write_rows

__all__ = ["Stop", "bar", "counted", "finishing_the_file", "list_rejected", "refusals", "reject", "undo"]

_SHOWN_REFUSALS = 20

_PAIRS: list[Column] = [("first", "Photo"), ("second", "Is no copy of"), ("who", "Who"), ("at", "When")]


@contextlib.contextmanager
def bar(description: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr, if that is a terminal; yield what takes how much is done, and of how much."""
    from tqdm import tqdm

    with tqdm(desc=description, unit=unit, disable=not sys.stderr.isatty(), leave=False) as shown:

        def progress(done: int, total: int) -> None:
            shown.total = total
            shown.update(done - shown.n)

        yield progress


def counted(count: int, one: str, many: str) -> str:
    """Return a number with its noun."""
    return f"{count} {one if count == 1 else many}"


@dataclass
class Stop:
    """The wish to stop, and its signal."""

    signum: int | None = None

    def __bool__(self) -> bool:
        return self.signum is not None

    def go_on_stopping(self) -> None:
        """End as the signal would have ended the program at once."""
        if self.signum is not None:
            signal.raise_signal(self.signum)


@contextlib.contextmanager
def finishing_the_file() -> Iterator[Stop]:
    """Note SIGINT and SIGTERM instead of being cut off by them; a second one of them cuts off."""
    stop = Stop()
    before: dict[signal.Signals, Any] = {}

    def note(signum: int, frame: object) -> None:  # noqa: ARG001
        stop.signum = signum
        for each, handler in before.items():
            signal.signal(each, handler)

    for each in (signal.SIGINT, signal.SIGTERM):
        before[each] = signal.signal(each, note)
    try:
        yield stop
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def refusals(refused: Sequence[tuple[str, str]], what: str) -> None:
    """Print on stderr which files, by path, were not dealt with, and why; the first of them."""
    for path, reason in refused[:_SHOWN_REFUSALS]:
        click.echo(f"Warning: {path}: {reason}", err=True)
    if len(refused) > _SHOWN_REFUSALS:
        click.echo(f"Warning: {len(refused) - _SHOWN_REFUSALS} more files {what}", err=True)


@click.command("undo", short_help="Move the files of a run back.")
@click.argument("run", metavar="[RUN]", required=False, type=click.IntRange(min=1))
@catalog_option
@format_option
def undo(run: int | None, catalog: Path, fmt: str) -> None:
    """Move back what RUN moved to quarantine, or the last run with files there.

    A file is put back only if it is as it was, and never over another one; exit status 1 if some were not.
    """
    from birdsearch.display_path import display_path
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.dedup.quarantine import undo as put_back

    with (
        finishing_the_file() as stop,
        CatalogStore.open(catalog, "write", purpose="dedup undo") as store,
        bar("moving back", " files") as progress,
    ):
        report = put_back(store, run, should_stop=lambda: bool(stop), progress=progress)
    warn(report.recovered)
    refused = [(display_path(one.path), one.reason) for one in report.refused]
    refusals(refused, "were not put back")
    row: dict[str, object] = {
        "run": report.run_id,
        "undone_run": report.undone_run_id,
        "restored": report.restored,
    }
    if fmt == "json":
        write_json(row | {"refused": [{"path": path, "reason": reason} for path, reason in refused]})
    elif fmt == "csv":
        row["refused"] = len(refused)
        write_rows([row], [(key, key) for key in row], fmt)
    else:
        left = f"; {len(refused)} were not" if refused else ""
        emit(f"run {report.undone_run_id}: {counted(report.restored, 'file is', 'files are')} back{left}")
    stop.go_on_stopping()
    if refused:
        sys.exit(1)


# -- what a person says --------------------------------------------------------------------------------------


def _login_name() -> str:
    import getpass

    try:
        return getpass.getuser() or "unknown"
    except (OSError, KeyError, ImportError):
        return "unknown"


@click.command("reject", short_help="Say that photos are no copies of each other.")
@click.argument("photos", metavar="PHOTO PHOTO...", nargs=-1, required=True)
@click.option("--undo", "forget", is_flag=True, help="Forget that it was said.")
@click.option("--who", metavar="NAME", default=_login_name, show_default="your login name")
@catalog_option
def reject(photos: tuple[str, ...], forget: bool, who: str, catalog: Path) -> None:
    """Remember that no two of these photos (files, or ids such as "#12") are copies of each other.

    Their group is not shown again. If a new photo joins it, it is shown with that one, and photos that were
    rejected are still never in one group.
    """
    from birdsearch.errors import InvalidInputError
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.annotate.photos import find_stored
    from birdsearch.search.dedup.distinct import reject as remember
    from birdsearch.search.dedup.distinct import unreject

    if len(photos) < 2:
        raise InvalidInputError("name at least two photos that are no copies of each other")
    with CatalogStore.open(catalog, "edit", purpose="dedup reject") as store:
        # "12" is an id too, unless there is a file of that name.
        ids = [
            find_stored(store, int(photo) if photo.isdecimal() and not Path(photo).exists() else photo)
            for photo in photos
        ]
        changed = unreject(store, ids) if forget else remember(store, ids, who)
    what = "forgotten" if forget else "remembered"
    emit(f"{what} for {counted(changed, 'pair', 'pairs')} of photos" if changed else "nothing to change")


@click.command("rejected", short_help="List the pairs that are no copies.")
@catalog_option
@format_option
def list_rejected(catalog: Path, fmt: str) -> None:
    """List the pairs of photos that a person said are no copies."""
    from birdsearch.indexer.catalog.copies import read_distinct_pairs
    from birdsearch.indexer.catalog.store import CatalogStore

    with CatalogStore.open(catalog) as store:
        pairs = read_distinct_pairs(store)
        paths = photo_paths(store, {each for pair in pairs for each in (pair.first_id, pair.second_id)})
    rows: list[dict[str, object]] = [
        {
            "first_id": pair.first_id,
            "first": paths[pair.first_id],
            "second_id": pair.second_id,
            "second": paths[pair.second_id],
            "who": pair.who,
            "at": pair.at,
        }
        for pair in pairs
    ]
    if not rows and fmt == "table":
        click.echo("no pair was rejected")
        return
    keys = ("first_id", "first", "second_id", "second", "who", "at")
    write_rows(rows, _PAIRS if fmt == "table" else [(key, key) for key in keys], fmt)
