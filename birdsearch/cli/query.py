"""`birdsearch query`: photos of the catalog that look alike, and what is on a photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.labelling import NOT_CALIBRATED, checklist_option, confidence_option, read_checklist
from birdsearch.cli.output import (
    Column,
    catalog_option,
    emit,
    format_option,
    printable,
    write_json,
    write_rows,
)
from birdsearch.cli.runtime_option import runtime_option
from birdsearch.cli.where import build_where, sensitive_photos, where_options

if TYPE_CHECKING:
    from birdsearch.errors import PhotoError
    from birdsearch.indexer.catalog.filters import Where
    from birdsearch.search.query.hits import Hit, QueryResult
    from birdsearch.search.query.inputs import Photo
    from birdsearch.settings import Settings

__all__ = ["query"]

_SHEET_SUFFIXES = (".png", ".html")
# Names of voters that a table shows; JSON has all of them.
_VOTES = 4

_TABLE: list[Column] = [
    ("rank", "Rank"),
    ("similarity", "Similarity"),
    ("label", "Label"),
    ("path", "Path"),
    ("time", "Time"),
    ("place", "Place"),
]
_CSV_KEYS = "query rank path similarity photo_id view box label captured_at lat lon"
_CSV: list[Column] = [(key, key) for key in _CSV_KEYS.split()]


def _sheet_path(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Path | None:
    if value is not None and value.suffix.lower() not in _SHEET_SUFFIXES:
        raise click.BadParameter(f"{value} must end in {' or '.join(_SHEET_SUFFIXES)}")
    return value


@click.command(short_help="Find similar photos; name the bird.")
@click.argument("photos", metavar="PHOTO...", nargs=-1, required=True)
@catalog_option
@click.option("-k", default=20, show_default=True, type=click.IntRange(min=0), help="Hits for each photo.")
@click.option(
    "--box", metavar="X,Y,W,H", help="Ask about this region, in parts of the upright photo (0 to 1)."
)
@where_options
@confidence_option
@checklist_option
@click.option(
    "--refined",
    is_flag=True,
    help="Order hits by refined vectors: more photos of the same species; similarities stay plain.",
)
@click.option("--exact", is_flag=True, help="Look at all vectors, however many the catalog holds.")
@click.option("--include-self", is_flag=True, help="Let the photo itself be a hit.")
@click.option(
    "--weights",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The catalog's weights, if they are not where they were.",
)
@runtime_option
@click.option(
    "--sheet",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_sheet_path,
    help="Write a contact sheet: .png or .html.",
)
@format_option
def query(
    photos: tuple[str, ...],
    catalog: Path,
    k: int,
    box: str | None,
    confidence: float,
    checklist: Path | None,
    refined: bool,
    exact: bool,
    include_self: bool,
    weights: Path | None,
    settings: Settings,
    exact_places: bool,
    sheet: Path | None,
    fmt: str,
    **conditions: Any,
) -> None:
    """Find the photos that look most like each PHOTO, and name what is on it.

    PHOTO is a file, or "#12" for the photo of the catalog with this id. Conditions such as --since hold for
    the hits and are applied before the search. A checklist flags the labels of PHOTO by its time and place, and
    each hit's label by those of the hit. Places that would tell where a sensitive species is are coarsened.
    """
    from birdsearch.indexer.catalog.roots import absent_roots
    from birdsearch.search.catalog import Catalog
    from birdsearch.search.query.inputs import parse_box
    from birdsearch.search.query.location_privacy.coarsening import with_coarse_places

    where = build_where(**conditions)
    region = None if box is None else parse_box(box)
    failed = 0

    def on_error(_photo: Photo, error: PhotoError) -> None:
        nonlocal failed
        failed += 1
        click.echo(f"Error: {error}", err=True)

    with Catalog.open(catalog, "read", settings=settings) as opened:
        listed = None if checklist is None else read_checklist(opened.store, checklist)
        told = sensitive_photos(opened.store, exact_places=exact_places)
        where = replace(where, coarse_by=told)
        results = opened.query_many(
            photos, k, where, region, include_self, weights, on_error, confidence, refined, exact
        )
        if told is not None:
            results = with_coarse_places(told, results)
        if listed is not None:
            from birdsearch.search.labels.checklist import flag_result

            # By the places as they are told: a checklist of small boxes would find out more.
            results = [flag_result(opened.store, listed, result, told) for result in results]
        away = absent_roots(opened.store)
    for warning in dict.fromkeys((*away, *(line for result in results for line in result.warnings))):
        click.echo(f"Warning: {warning}", err=True)
    coarse = len({hit.photo_id for result in results for hit in result.hits if hit.coarse})
    if coarse:
        click.echo(
            f"places of {coarse} {'photo' if coarse == 1 else 'photos'} of sensitive species are coarsened to 0.1 "
            "degree, those that would tell them too; --exact-places shows them",
            err=True,
        )
    _print(results, fmt, _nothing(k, where), is_flagged=checklist is not None)
    if sheet is not None and results:
        from birdsearch.search.export.sheet import write_sheet

        write_sheet(sheet, results)
        click.echo(f"wrote {sheet}", err=True)
    if failed:
        click.get_current_context().exit(1)


def _print(results: list[QueryResult], fmt: str, nothing: str, *, is_flagged: bool) -> None:
    if fmt == "json":
        write_json([result.to_dict() for result in results])
    elif fmt == "csv":
        write_rows(
            [{"query": result.query.path, **hit.to_dict()} for result in results for hit in result.hits],
            _columns(_CSV, is_flagged),
            fmt,
        )
    else:
        for index, result in enumerate(results):
            if index:
                emit("")
            _print_table(result, nothing, _columns(_TABLE, is_flagged))


def _columns(columns: list[Column], is_flagged: bool) -> list[Column]:
    """Return the columns, with a checklist's flag after the label of a hit."""
    if not is_flagged:
        return columns
    after = [key for key, _ in columns].index("label") + 1
    return [*columns[:after], ("flag", "Flag" if columns is _TABLE else "flag"), *columns[after:]]


def _print_table(result: QueryResult, nothing: str, columns: list[Column]) -> None:
    emit(result.query.path)
    for line in _label_lines(result):
        emit(f"  {printable(line)}")
    if result.hits:
        write_rows([_table_row(hit) for hit in result.hits], columns, "table")
    else:
        emit(f"  {nothing}")


def _label_lines(result: QueryResult) -> list[str]:
    """Describe the label, the likeliest candidates, and the evidence for them."""
    if not result.labels:
        return ["no labels: the model has no classes and no photo is verified"]
    candidates = ", ".join(
        f"{label.name}{_flag(label.flag)} {label.probability:.1%}" for label in result.labels
    )
    evidence = result.evidence
    if evidence is None:
        return [candidates]
    shown = evidence.name if evidence.rank in ("species", "bird") else f"{evidence.name} ({evidence.rank})"
    sure = "" if evidence.rank == "bird" else f" {evidence.probability:.1%}"
    doubt = "" if result.unknown is None else f"; of no known label: {result.unknown:.1%}"
    lines = [f"{shown}{_flag(evidence.flag)}{sure}{doubt}", f"candidates: {candidates}"]
    first = result.labels[0]
    if first.p_knn is None:
        lines.append("by the network alone: no verified photo has a say")
    else:
        votes: dict[str, int] = {}
        for voter in evidence.neighbours:
            votes[voter.label] = votes.get(voter.label, 0) + 1
        ranked = sorted(votes.items(), key=lambda one: (-one[1], one[0]))
        near = ", ".join(f"{count} {name}" for name, count in ranked[:_VOTES])
        if len(ranked) > _VOTES:
            near += f" and {len(ranked) - _VOTES} more names"
        lines.append(
            f"{first.name}: network {first.p_model:.1%}, verified neighbours {first.p_knn:.1%} "
            f"(their part {evidence.knn_weight:.0%}: {near})"
        )
    if not evidence.calibrated:
        lines.append(NOT_CALIBRATED)
    return lines


def _flag(flag: str | None) -> str:
    return f" [{flag}]" if flag else ""


def _nothing(k: int, where: Where) -> str:
    """Explain why there are no hits."""
    if k == 0:
        return "no hits were asked for"
    return "no similar photos" if where.is_empty else "no photo meets the conditions"


def _table_row(hit: Hit) -> dict[str, object]:
    return {
        "rank": hit.rank,
        "similarity": f"{hit.similarity:.4f}",
        "label": hit.label,
        "flag": hit.flag,
        "path": hit.path,
        "time": None if hit.captured_at is None else hit.captured_at[:16].replace("T", " "),
        "place": _place(hit),
    }


def _place(hit: Hit) -> str | None:
    if hit.lat is None or hit.lon is None:
        return None
    return f"{hit.lat:.1f}, {hit.lon:.1f}" if hit.coarse else f"{hit.lat:.4f}, {hit.lon:.4f}"
