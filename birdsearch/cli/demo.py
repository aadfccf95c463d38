"""`birdsearch demo`: a synthetic archive with known truth, indexed, searched and scored."""

from __future__ import annotations

import math
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from birdsearch.cli.output import Column, write_rows

if TYPE_CHECKING:
    from birdsearch.data.truth import Truth
    from birdsearch.indexer.catalog import CatalogStore

__all__ = ["demo"]

# Events with verified photos from which on the estimate is fitted on them.
_ENOUGH = 25
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
    from birdsearch.data.truth import read_truth

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
    if len(_looked_at(truth)) >= _ENOUGH:
        _run(["label", "--fit", *shared])
    _run(["label", *shared])
    if known is not None:
        _run(["query", str(archive / known.path), "-k", "3", *shared])
    _run(["check", *shared])
    click.echo("\nScores against the truth")
    write_rows(_scores(archive, catalog, truth), _SCORES, "table")
    sheets = " and ".join(str(path) for path in (picture, page) if path.exists())
    click.echo(f"\nLook at {sheets}; the archive is in {archive}, the catalog in {catalog}.")


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


def _run(arguments: Sequence[str]) -> None:
    """Run a command of this program, shown as a person would type it."""
    from birdsearch.cli import cli

    click.secho(f"\n$ birdsearch {shlex.join(arguments)}", bold=True)
    cli.main(list(arguments), prog_name="birdsearch", standalone_mode=False)


def _verify(folder: Path, archive: Path, truth: Sequence[Truth], shared: Sequence[str]) -> None:
    """Say what is on half of the events, as somebody who looked at them would."""
    import csv

    table, taxa = folder / "labels.csv", folder / "taxa.csv"
    frames = [row for row in truth if row.kind == "photo"]
    columns = ("common_name", "scientific_name", "family", "order")
    named = {(row.common_name, row.species, row.family, row.order) for row in frames}
    with taxa.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([columns, *sorted(named)])
    looked_at = _looked_at(truth)
    rows = [
        (str((archive / row.path).resolve()), row.common_name) for row in frames if row.event in looked_at
    ]
    with table.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("path", "taxon"), *rows])
    _run(["annotate", "import", str(table), "--taxonomy", str(taxa), "--who", "demo", *shared])


def _looked_at(truth: Sequence[Truth]) -> set[str]:
    """Every second event."""
    return set(sorted({row.event for row in truth if row.kind == "photo"})[::2])


def _a_photo(truth: Sequence[Truth], known: str) -> Truth | None:
    """A frame of the species that was seen in the most folders, so that there is something to find."""
    frames = [row for row in truth if row.kind == "photo" and row.known == known]

    def folders(row: Truth) -> int:
        return len({other.path.rpartition("/")[0] for other in frames if other.species == row.species})

    return max(frames, key=lambda row: (folders(row), row.path), default=None)


def _scores(archive: Path, catalog: Path, truth: Sequence[Truth]) -> list[dict[str, object]]:
    import numpy as np

    from birdsearch.indexer.catalog import CatalogStore
    from birdsearch.indexer.vectors import normalised
    from birdsearch.search.evaluate import recall_at_k, top1

    frames = [row for row in truth if row.kind == "photo"]
    with CatalogStore.open(catalog) as store:
        model = store.active_model()
        views = _views(store, archive, frames)
        if model is None or None in views:
            raise click.ClickException(f"{catalog} does not hold every frame of {archive}")
        stored = store.embeddings(model.id, [view_id for view_id in views if view_id is not None])
        counts = store.counts()
    vectors = np.stack([stored[view_id] for view_id in views if view_id is not None])
    unit = normalised(vectors)
    species = [row.species for row in frames]
    events = [row.event for row in frames]
    known = np.array([row.known == "1" for row in frames])
    labelled = [row.common_name for row in frames]
    rows: list[dict[str, object]] = []
    accuracy, photos = top1(model.logits(vectors), model.classes, labelled)
    rows.append({"score": "top-1 of the logits, known species", "value": _shown(accuracy), "photos": photos})
    for name, queries in (("known species", known), ("species never trained on", ~known)):
        recall = recall_at_k(unit, species, events, 1, queries)
        rows.append(
            {
                "score": f"recall@1 by cosine outside the own event, {name}",
                "value": _shown(recall.value),
                "photos": recall.queries,
            }
        )
    rows += _label_scores(archive, catalog, truth)
    broken = sum(row.kind == "corrupt" for row in truth)
    failed = sum(counts.failures.values())
    rows.append({"score": "corrupt files reported", "value": f"{failed} of {broken}", "photos": None})
    return rows


def _views(store: CatalogStore, archive: Path, frames: Sequence[Truth]) -> list[int | None]:
    """The view of each frame, None for one that the catalog does not hold."""
    import os

    ids = [store.photo_at(os.fsencode((archive / row.path).resolve())) for row in frames]
    views = store.whole_views([photo_id for photo_id in ids if photo_id is not None])
    return [None if photo_id is None else views.get(photo_id) for photo_id in ids]


def _label_scores(archive: Path, catalog: Path, truth: Sequence[Truth]) -> list[dict[str, object]]:
    """Labels of the frames that nobody verified, of species that somebody verified elsewhere."""
    from birdsearch.indexer.catalog import CatalogStore
    from birdsearch.search.predict import last_predictions

    frames = [row for row in truth if row.kind == "photo"]
    looked_at = _looked_at(truth)
    verified = {row.species for row in frames if row.event in looked_at}
    asked = [row for row in frames if row.event not in looked_at]
    with CatalogStore.open(catalog) as store:
        views = _views(store, archive, asked)
        said = {one.view_id: one.species for one in last_predictions(store)}
    rows: list[dict[str, object]] = []
    for name, known in (("known species", "1"), ("species never trained on, verified elsewhere", "0")):
        right = [
            view_id is not None and said.get(view_id) == row.common_name
            for view_id, row in zip(views, asked, strict=True)
            if row.known == known and (known == "1" or row.species in verified)
        ]
        share = sum(right) / len(right) if right else math.nan
        rows.append(
            {"score": f"top-1 of the fused labels, {name}", "value": _shown(share), "photos": len(right)}
        )
    return rows


def _shown(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
