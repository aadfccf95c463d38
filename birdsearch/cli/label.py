"""`birdsearch label` and `mislabelled`: labels for the whole catalog, and verified labels that look wrong."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.labelling import (
    NOT_CALIBRATED,
    checklist_option,
    confidence_option,
    model_in_use,
    read_checklist,
)
from birdsearch.cli.output import (
    Column,
    catalog_option,
    emit,
    format_option,
    printable,
    write_json,
    write_rows,
)
from birdsearch.cli.where import build_where, sensitive_photos, where_options

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from birdsearch.indexer.catalog.filters import Where
    from birdsearch.indexer.catalog.records import Prediction
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.labels.calibration import Calibration
    from birdsearch.search.labels.checklist import Checklist
    from birdsearch.search.labels.estimator import LabelEstimator
    from birdsearch.search.labels.predict import LabelSummary

__all__ = ["label", "mislabelled"]

_PREDICTIONS: list[Column] = [
    ("photo_id", "Photo"),
    ("name", "Label"),
    ("rank", "Rank"),
    ("probability", "Probability"),
    ("species", "Likeliest"),
    ("species_probability", "p"),
    ("p_model", "Network"),
    ("p_knn", "Neighbours"),
    ("lambda", "Their part"),
    ("unknown", "Unknown"),
    ("path", "Path"),
]
_FLAGGED: list[Column] = [*_PREDICTIONS[:2], ("flags", "Flags"), *_PREDICTIONS[2:]]
_DOUBTS: list[Column] = [
    ("photo_id", "Photo"),
    ("label", "Verified as"),
    ("p_label", "p"),
    ("better", "Rather"),
    ("p_better", "p"),
    ("neighbours", "Neighbours say"),
    ("path", "Path"),
]
_MOST_NAMES = 15


@click.command(short_help="Label every photo, or say what to verify next.")
@catalog_option
@click.option(
    "--fit", is_flag=True, help="First fit the estimate on the verified photos that meet the conditions."
)
@confidence_option
@click.option(
    "--suggest", metavar="N", type=click.IntRange(min=1), help="Write nothing; list N photos to verify next."
)
@where_options
@checklist_option
@format_option
def label(
    catalog: Path,
    fit: bool,
    confidence: float,
    suggest: int | None,
    checklist: Path | None,
    exact_places: bool,
    fmt: str,
    **conditions: Any,
) -> None:
    """Label the photos of the catalog, from the stored vectors and the verified photos.

    No picture is read. A photo's own copies and the other frames of its event never vote for it. The labels are
    kept with the run that made them; --format csv and json print each of them. A checklist flags labels by when and
    where their photos were taken, and changes nothing else. With --fit the conditions choose
    the photos that the estimate is fitted on, and nothing is labelled: photos that the network was trained on
    should not be among them.
    """
    from birdsearch.indexer.catalog.store import CatalogStore

    if fit and suggest is not None:
        raise click.UsageError("--fit and --suggest are two things; ask for one")
    if fit and checklist is not None:
        raise click.UsageError("--fit labels nothing that --checklist could flag; leave one of them out")
    where = build_where(**conditions)
    if suggest is not None:
        with CatalogStore.open(catalog) as store:
            where = replace(where, coarse_by=sensitive_photos(store, exact_places=exact_places))
            listed = None if checklist is None else read_checklist(store, checklist)
            _suggest(store, suggest, where, listed, fmt)
        return
    with CatalogStore.open(catalog, "write", purpose="label") as store:
        where = replace(where, coarse_by=sensitive_photos(store, exact_places=exact_places))
        if fit:
            _fit(store, where, fmt)
        else:
            listed = None if checklist is None else read_checklist(store, checklist)
            _label(store, where, confidence, listed, fmt)


def _estimator(store: CatalogStore, calibration: Calibration | None = None) -> LabelEstimator:
    from birdsearch.search.labels.estimator import LabelEstimator

    record = model_in_use(store)
    return LabelEstimator.open(store, record, calibration)


def _fit(store: CatalogStore, where: Where, fmt: str) -> None:
    from birdsearch.search.labels.calibration import Calibration
    from birdsearch.search.labels.predict import fit_catalog

    # From the defaults: a fit is also what repairs a calibration that cannot be read.
    found = fit_catalog(store, _estimator(store, Calibration()), where)
    rows = _calibration_rows(found)
    if fmt == "json":
        write_json({key: value for key, _, value in rows})
    else:
        columns = [("what", "What"), ("value", "Value")]
        write_rows(
            [{"key": key, "what": what, "value": value} for key, what, value in rows],
            [("key", "Key"), *columns] if fmt == "csv" else columns,
            fmt,
        )


def _calibration_rows(found: Calibration) -> list[tuple[str, str, object]]:
    """Return key, description and value of each parameter."""
    fusion = found.fusion
    return [
        ("photos", "fitted on photos", found.photos),
        ("groups", "of groups", found.groups),
        ("labels", "of labels", found.labels),
        ("ece_before", "calibration error before", found.ece_before),
        ("ece_after", "calibration error after, on photos that the fit did not see", found.ece_after),
        ("top1_before", "top-1 before", found.top1_before),
        ("top1_after", "top-1 after, on photos that the fit did not see", found.top1_after),
        ("temperature", "temperature T of the logits", 1 / fusion.sharpness),
        ("discount", "discount of the network where photos speak too", fusion.discount),
        ("tau", "tau of the neighbours", fusion.neighbour_scale),
        ("neighbour_weight", "weight of the neighbours", fusion.neighbour_weight),
        ("mean_weight", "weight of the class means", fusion.mean_weight),
    ]


def _label(
    store: CatalogStore, where: Where, confidence: float, checklist: Checklist | None, fmt: str
) -> None:
    from tqdm import tqdm

    from birdsearch.indexer.catalog.predictions import predictions
    from birdsearch.search.labels.predict import label_catalog

    with tqdm(desc="labelling", unit=" photos", disable=not sys.stderr.isatty(), leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        summary = label_catalog(store, _estimator(store), where, confidence, progress, checklist)
    if summary.skipped:
        click.echo(f"Warning: {summary.skipped} stored vectors are damaged; run `birdsearch check`", err=True)
    if fmt != "table":
        columns = _PREDICTIONS if checklist is None else _FLAGGED
        _write_predictions(store, predictions(store, summary.run_id), columns, fmt)
        return
    ranks = ", ".join(f"{summary.ranks[rank]} {rank}" for rank in _in_order(summary.ranks))
    click.echo(f"labelled {summary.views} photos (run {summary.run_id}): {ranks or 'none'}")
    named = list(summary.names.items())
    write_rows(
        [{"name": name, "photos": count} for name, count in named[:_MOST_NAMES]],
        [("name", "Label"), ("photos", "Photos")],
        fmt,
    )
    if len(named) > _MOST_NAMES:
        click.echo(f"and {len(named) - _MOST_NAMES} more; --format csv lists every photo")
    if checklist is not None:
        emit(printable(_flagged(summary, checklist.source)))
    if not summary.is_calibrated:
        click.echo(NOT_CALIBRATED)


def _flagged(summary: LabelSummary, source: str) -> str:
    """Return one line about the labels that the checklist flagged."""
    count = sum(summary.flags.values())
    if not count:
        return f"{source} flags no label"
    parts = ", ".join(f"{number} {flag}" for flag, number in summary.flags.items())
    return f"{source} flags {count} of {summary.views} labels: {parts}; --format csv has them in its column flags"


def _in_order(ranks: dict[str, int]) -> list[str]:
    from birdsearch.indexer.catalog.taxa import RANKS
    from birdsearch.search.labels.space import ROOT

    return [rank for rank in (*RANKS, ROOT) if rank in ranks]


def _suggest(store: CatalogStore, count: int, where: Where, checklist: Checklist | None, fmt: str) -> None:
    from birdsearch.search.labels.checklist import flag_predictions
    from birdsearch.search.labels.suggest import suggest

    found = suggest(store, _estimator(store), count, where)
    if checklist is None:
        _write_predictions(store, found, _PREDICTIONS, fmt)
    else:
        _write_predictions(store, flag_predictions(store, checklist, found, where.coarse_by), _FLAGGED, fmt)


def _write_predictions(
    store: CatalogStore, found: Iterable[Prediction], columns: Sequence[Column], fmt: str
) -> None:
    listed = list(found)
    photos = _photos(store, [one.view_id for one in listed])
    rows = [
        {
            "photo_id": photos[one.view_id][0],
            "path": photos[one.view_id][1],
            "name": one.name,
            "flags": one.flags,
            "rank": one.rank,
            "probability": one.probability,
            "species": one.species,
            "species_probability": one.species_probability,
            "p_model": one.p_model,
            "p_knn": one.p_knn,
            "lambda": one.knn_weight,
            "unknown": one.unknown,
        }
        for one in listed
    ]
    write_rows(rows, columns, fmt)


def _photos(store: CatalogStore, view_ids: Sequence[int]) -> dict[int, tuple[int, str]]:
    """Return the photo id and path, escaped for people, of each view."""
    from birdsearch.display_path import display_path
    from birdsearch.indexer.catalog.views import photos_of_views

    return {
        view_id: (photo.id, display_path(photo.path))
        for view_id, photo in photos_of_views(store, view_ids).items()
    }


@click.command(short_help="List verified labels that look wrong.")
@catalog_option
@click.option(
    "--least",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="By how much another label has to be more probable.",
)
@format_option
def mislabelled(catalog: Path, least: float, fmt: str) -> None:
    """List verified labels that the other verified photos and the network contradict, the surest first.

    Each is judged without its own say and that of its copies and its event.
    """
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.labels.predict import mislabelled as doubts

    with CatalogStore.open(catalog) as store:
        found = doubts(store, _estimator(store), least)
        photos = _photos(store, [one.view_id for one in found])
    rows = [
        {
            "photo_id": photos[one.view_id][0],
            "path": photos[one.view_id][1],
            "label": one.label,
            "p_label": one.p_label,
            "better": one.better,
            "p_better": one.p_better,
            "neighbours": f"{one.knn_better:.0%} {one.better}, {one.knn_label:.0%} {one.label}",
        }
        for one in found
    ]
    if not rows and fmt == "table":
        click.echo("no verified label is contradicted")
        return
    write_rows(rows, _DOUBTS, fmt)
