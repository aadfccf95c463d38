"""`birdsearch eval`: how good labels and retrieval are on the user's own verified photos."""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from birdsearch.cli.labelling import model_in_use
from birdsearch.cli.output import catalog_option, emit, format_option, printable, table, write_json

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.evaluation.evaluate import Labelled
    from birdsearch.search.evaluation.report import Report
    from birdsearch.search.labels.space import LabelSpace

__all__ = ["evaluate"]


@click.command("eval", short_help="Measure labels and retrieval on verified photos.")
@catalog_option
@click.option(
    "--split",
    type=click.Choice(["event", "photo", "camera", "folder"]),
    default="event",
    show_default=True,
    help="What never stands on both sides: copies and frames of an event, or a whole camera or folder.",
)
@click.option(
    "--queries-under",
    metavar="DIR",
    multiple=True,
    help="Ask about the verified photos in this folder only, and let only the others answer. May be repeated.",
)
@click.option("--probe", is_flag=True, help="Also measure a linear probe.")
@click.option("--seed", default=0, show_default=True, help="Decides halves, hidden species and few labels.")
@click.option(
    "--report",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write report.html, report.json and the curves as PNG (needs birdsearch[plots]).",
)
@format_option
def evaluate(
    catalog: Path,
    split: str,
    queries_under: tuple[str, ...],
    probe: bool,
    seed: int,
    report: Path | None,
    fmt: str,
) -> None:
    """Measure how good labels, retrieval and the telling of unknown species are on YOUR verified photos.

    Whatever is fitted is judged on other photos than it was fitted on. Photos that the network was trained on make
    it look better than it is: keep them out with --queries-under.
    """
    from tqdm import tqdm

    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.evaluation.evaluate import evaluate as measure
    from birdsearch.search.evaluation.tables import build_report

    with CatalogStore.open(catalog) as store:
        data, space, provenance = _read(store, split, queries_under, probe, seed)
    with tqdm(
        desc="measuring", disable=not sys.stderr.isatty(), leave=False, bar_format="{desc}: {postfix}"
    ) as bar:
        found = measure(data, space, seed=seed, progress=bar.set_postfix_str)
    built = build_report(found, provenance, seed=seed)
    _print(built, fmt)
    if report is not None:
        from birdsearch.search.export.evaluation_report import write_report

        for path in write_report(built, report):
            click.echo(f"wrote {path}", err=True)


def _read(
    store: CatalogStore, split: str, queries_under: tuple[str, ...], probe: bool, seed: int
) -> tuple[Labelled, LabelSpace, dict[str, str]]:
    from birdsearch.search.evaluation.data import read_labelled
    from birdsearch.version import __version__

    record = model_in_use(store)
    data, space = read_labelled(store, record, split, queries_under, with_probe=probe, seed=seed)
    provenance = {
        "catalog": str(store.path),
        "model": f"{record.name} (sha256 {record.sha256})",
        "verified photos": str(len(data.references)),
        "asked about": str(int(data.queries.sum())),
        "that may answer": str(int(data.voters.sum())),
        "split by": split if not queries_under else f"{split}, queries under {', '.join(queries_under)}",
        "seed": str(seed),
        "birdsearch": __version__,
        "python": platform.python_version(),
    }
    return data, space, provenance


def _print(built: Report, fmt: str) -> None:
    from birdsearch.search.export.evaluation_report import report_dict

    if fmt == "json":
        write_json(report_dict(built))
        return
    if fmt == "csv":
        emit("table,row,column,value,low,high")
        for one in built.tables:
            for row in one.rows:
                for column, cell in zip(one.columns[1:], row[1:], strict=True):
                    emit(",".join(_quoted(part) for part in (one.title, row[0], column, *_parts(cell))))
        return
    for number, one in enumerate(built.tables):
        if number:
            emit("")
        emit(one.title)
        keys = [(column, column) for column in one.columns]
        rows = [dict(zip(one.columns, (_shown(cell) for cell in row), strict=True)) for row in one.rows]
        emit(table(rows, keys))
        if one.note:
            emit(printable(one.note))


def _parts(cell: object) -> tuple[object, object, object]:
    """Return value, low and high."""
    from birdsearch.search.metrics.sampling import Estimate

    return (cell.value, cell.low, cell.high) if isinstance(cell, Estimate) else (cell, None, None)


def _shown(cell: object) -> object:
    from birdsearch.search.metrics.sampling import Estimate

    if isinstance(cell, Estimate):
        return f"{cell.value:.3f} [{cell.low:.3f}, {cell.high:.3f}]"
    return round(cell, 4) if isinstance(cell, float) else cell


def _quoted(value: object) -> str:
    text = "" if value is None else str(value)
    return '"' + text.replace('"', '""') + '"' if any(sign in text for sign in ',"\n') else text
