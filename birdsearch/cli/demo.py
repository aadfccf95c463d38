"""`birdsearch demo`: a synthetic archive with known truth, indexed, searched and scored."""

from __future__ import annotations

import contextlib
import io
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from birdsearch.cli.demo_scores import can_cluster, looked_at, scores
from birdsearch.cli.output import Column, write_rows

if TYPE_CHECKING:
    from birdsearch.data.synthetic.truth import Truth

__all__ = ["demo"]

# Events with verified photos from which on the estimate is fitted on them.
_ENOUGH = 25
# Lines of a table.
_SHOWN = 16
_SCORES: list[Column] = [("score", "Score"), ("value", "Value"), ("photos", "Photos")]


@click.command(short_help="Make a synthetic archive and try everything on it.")
@click.argument("folder", metavar="[DIR]", default="birdsearch-demo", type=click.Path(path_type=Path))
@click.option(
    "--weights", type=click.Path(path_type=Path), help="Weights file instead of the demo's own weights."
)
@click.option(
    "--photos", default=400, show_default=True, type=click.IntRange(min=24), help="Frames to render."
)
@click.option("--seed", default=1, show_default=True, help="What the archive is made from.")
@click.option("--workers", type=click.IntRange(1, 64), help="Processes.  [default: one a core]")
def demo(folder: Path, weights: Path | None, photos: int, seed: int, workers: int | None) -> None:
    """Render an archive of invented birds into DIR, index it, query it, and score the answers.

    Each step is shown as the command that a person would type. What is in DIR/archive/truth.csv is only used
    for the scores at the end.
    """
    from birdsearch.data.synthetic.truth import read_truth

    archive, catalog = folder / "archive", folder / "catalog"
    if not (archive / "truth.csv").exists():
        _write_archive(archive, seed, photos, workers)
    truth = read_truth(archive)
    shared = ["--catalog", str(catalog)]
    source = ["--model", "demo"] if weights is None else ["--weights", str(weights)]
    _run(["index", str(archive), *source, *shared])
    _run(["status", *shared])
    picture, page = folder / "known.png", folder / "unknown.html"
    known, unknown = _a_photo(truth, "1"), _a_photo(truth, "0")
    if known is not None:
        _run(["query", str(archive / known.path), "-k", "10", "--sheet", str(picture), *shared])
    if unknown is not None:
        # A species that no network was trained on, looked for anywhere but in the folder of that day.
        photo = archive / unknown.path
        away = ["--exclude-under", str(photo.parent)]
        _run(["query", str(photo), "-k", "10", *away, "--sheet", str(page), *shared])
    _verify(folder, archive, truth, shared)
    if len(looked_at(truth)) >= _ENOUGH:
        _run(["label", "--fit", *shared])
    _run(["label", *shared])
    if known is not None:
        _run(["query", str(archive / known.path), "-k", "3", *shared])
    sightings, copies, clusters = folder / "sightings.csv", folder / "copies.html", folder / "clusters"
    _run(["sightings", "--out", str(sightings), *shared], most=_SHOWN)
    _run(["dedup", "--sheet", str(copies), *shared], most=_SHOWN)
    if can_cluster():
        _run(["cluster", "--report", str(clusters), *shared], most=_SHOWN)
    else:
        click.echo("\n`birdsearch cluster` is left out: it needs `pip install 'birdsearch[cluster]'`.")
    _run(["check", *shared])
    click.echo("\nScores against the truth")
    write_rows(scores(archive, catalog, truth), _SCORES, "table")
    made = (picture, page, copies, clusters / "clusters.html")
    sheets = ", ".join(str(path) for path in made if path.exists())
    click.echo(f"\nLook at {sheets}; the archive is in {archive}, the catalog in {catalog}.")
    click.echo(f"In a browser: birdsearch serve --open --catalog {shlex.quote(str(catalog))}")


def _write_archive(archive: Path, seed: int, photos: int, workers: int | None) -> None:
    from tqdm import tqdm

    from birdsearch.data.synthetic import write_archive

    with tqdm(desc="rendering", unit=" photos", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        summary = write_archive(archive, seed=seed, photos=photos, workers=workers, progress=progress)
    kinds = ", ".join(f"{count} {kind}" for kind, count in summary.files.items())
    click.echo(f"Rendered {archive}: {kinds}.")
    click.echo(
        f"{summary.individuals} birds of {summary.species} species that a network can know and {summary.unseen} "
        f"that none was trained on; {summary.sightings} sightings, {summary.bursts} bursts."
    )


def _run(arguments: Sequence[str], most: int | None = None) -> None:
    """Run a command of this program, shown as a person would type it, with at most so many lines of its answer."""
    from birdsearch.cli import cli

    click.secho(f"\n$ birdsearch {shlex.join(arguments)}", bold=True)
    answer = io.StringIO()
    with contextlib.nullcontext() if most is None else contextlib.redirect_stdout(answer):
        cli.main(list(arguments), prog_name="birdsearch", standalone_mode=False)
    lines = answer.getvalue().splitlines()
    for line in lines[:most]:
        click.echo(line)
    if most is not None and len(lines) > most:
        click.echo(f"... {len(lines) - most} more lines")


def _verify(folder: Path, archive: Path, truth: Sequence[Truth], shared: Sequence[str]) -> None:
    """Say what is on half of the events, as somebody who looked at them would."""
    from birdsearch.search.export.tables import write_table

    table, taxa = folder / "labels.csv", folder / "taxa.csv"
    frames = [row for row in truth if row.kind == "photo"]
    columns = ("common_name", "scientific_name", "family", "order")
    named = sorted({(row.common_name, row.species, row.family, row.order) for row in frames})
    write_table(taxa, [dict(zip(columns, names, strict=True)) for names in named], columns)
    seen = looked_at(truth)
    labels = [
        {"path": str((archive / row.path).resolve()), "taxon": row.common_name}
        for row in frames
        if row.event in seen
    ]
    write_table(table, labels, ("path", "taxon"))
    _run(["annotate", "import", str(table), "--taxonomy", str(taxa), "--who", "demo", *shared])


def _a_photo(truth: Sequence[Truth], known: str) -> Truth | None:
    """Return a frame of the species that is in the most folders, so that there is something to find."""
    frames = [row for row in truth if row.kind == "photo" and row.known == known]

    def folders(row: Truth) -> int:
        return len({other.path.rpartition("/")[0] for other in frames if other.species == row.species})

    return max(frames, key=lambda row: (folders(row), row.path), default=None)
