"""`birdsearch cluster`: groups in unlabelled imagery, to look at and to label at once."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from birdsearch.cli.cluster_edit import label, merge, name, split, undo
from birdsearch.cli.labelling import model_in_use
from birdsearch.cli.output import (
    Column,
    catalog_option,
    format_option,
    table_file_option,
    write_json,
    write_rows,
)
from birdsearch.cli.where import build_where, exact_places_option, sensitive_photos, where_options

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.clusters.report import ClusterRow, Overview

__all__ = ["cluster"]

_Command = TypeVar("_Command", bound=Callable[..., Any])

_METHODS = ("auto", "hdbscan", "graph", "kmeans")
_OUTLIERS = "outliers"

_CLUSTERS: list[Column] = [
    ("cluster", "Cluster"),
    ("name", "Name"),
    ("photos", "Photos"),
    ("events", "Events"),
    ("strength", "Strength"),
    ("sites", "Sites"),
    ("first", "First"),
    ("last", "Last"),
    ("label", "Label"),
    ("purity", "Purity"),
    ("note", "Note"),
]
_CLUSTER_KEYS = (
    *("cluster_id", "name", "photos", "events", "strength", "sites", "first", "last", "label", "label_share"),
    *("verified", "judged", "purity", "one_site"),
)
_MEMBERS: list[Column] = [
    ("photo_id", "Photo"),
    ("strength", "Strength"),
    ("event", "Event"),
    ("captured_at", "Taken"),
    ("label", "Label"),
    ("path", "Path"),
]


def _file_options(command: _Command) -> _Command:
    for option in (
        table_file_option("the members"),
        click.option(
            "--report",
            metavar="DIR",
            type=click.Path(path_type=Path, file_okay=False),
            help="Write clusters.html, map.png and members.csv to this folder.",
        ),
    ):
        command = option(command)
    return command


@click.group(invoke_without_command=True, short_help="Find groups of photos that look alike.")
@click.option(
    "--method",
    type=click.Choice(_METHODS),
    default="auto",
    show_default=True,
    help="How; auto is the best, graph and kmeans are faster.",
)
@click.option("--clusters", metavar="K", type=click.IntRange(min=1), help="How many, for auto and kmeans.")
@click.option("--frames", is_flag=True, help="Cluster every frame by itself, not one photo an event.")
@click.option("--seed", default=0, show_default=True, help="For methods that draw.")
@_file_options
@where_options
@catalog_option
@format_option
@click.pass_context
def cluster(
    ctx: click.Context,
    /,
    method: str,
    clusters: int | None,
    frames: bool,
    seed: int,
    report: Path | None,
    out: Path | None,
    catalog: Path,
    exact_places: bool,
    fmt: str,
    **conditions: Any,
) -> None:
    """Cluster the photos of the catalog by how they look, from the stored vectors.

    \b
    birdsearch cluster --report DIR            cluster, and write a report to look at
    birdsearch cluster list                    the clusters that there are
    birdsearch cluster show 7 --sheet 7.png    the photos of one
    birdsearch cluster name 7 "grey warblers"
    birdsearch cluster label 7 "Garden warbler" --except "#12"

    Frames of one event go together: each event is clustered by its sharpest photo. Clusters keep their ids and
    names from run to run as long as most of their members stay. An empty cluster id in CSV is that of the
    outliers, which are in no cluster.
    """  # noqa: D301 click takes the backspace for a paragraph that is not to be wrapped
    if ctx.invoked_subcommand is not None:
        _refuse_options(ctx)
        return
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.clusters.catalog import cluster_catalog
    from birdsearch.search.clusters.report import overview

    if clusters is not None and method in ("graph", "hdbscan"):
        raise click.UsageError(
            f"{method} finds the number of clusters itself; --clusters is for auto and kmeans"
        )
    where = build_where(**conditions)
    with CatalogStore.open(catalog, "write", purpose="birdsearch cluster") as store:
        record = model_in_use(store)
        told = sensitive_photos(store, exact_places=exact_places)
        where = dataclasses.replace(where, coarse_by=told)
        with _bar() as progress:
            state = cluster_catalog(
                store,
                record.id,
                method=method,
                k=clusters,
                frames=frames,
                where=where,
                seed=seed,
                progress=progress,
            )
        found = overview(store, state, told)
        _write_files(store, found, report, out)
    _print(found, fmt)


def _refuse_options(ctx: click.Context) -> None:
    """Refuse options before a subcommand, which would be without effect."""
    for param in ctx.command.params:
        source = ctx.get_parameter_source(param.name or "")
        if source is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"give {param.opts[-1]} after `{ctx.invoked_subcommand}`, not before it")


@contextmanager
def _bar() -> Iterator[Callable[[str, int, int], None] | None]:
    """Yield a callback that moves a bar on stderr, if that is a terminal; a new bar for each phase."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    bar: Any = None
    phase = ""

    def told(what: str, done: int, total: int) -> None:
        nonlocal bar, phase
        if bar is None or what != phase:
            if bar is not None:
                bar.close()
            bar, phase = tqdm(desc=what, total=total, leave=False, file=sys.stderr), what
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield told
    finally:
        if bar is not None:
            bar.close()


@cluster.command("list", short_help="Show the clusters that there are.")
@_file_options
@exact_places_option
@catalog_option
@format_option
def list_clusters(report: Path | None, out: Path | None, exact_places: bool, catalog: Path, fmt: str) -> None:
    """Show the clusters as the last run or edit left them, with the labels that photos have now."""
    from birdsearch.indexer.catalog.clusters import require_state
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.clusters.report import overview

    with CatalogStore.open(catalog) as store:
        found = overview(store, require_state(store), sensitive_photos(store, exact_places=exact_places))
        _write_files(store, found, report, out)
    _print(found, fmt)


@cluster.command(short_help="Show the photos of a cluster.")
@click.argument("cluster_id", metavar="ID")
@click.option(
    "--sheet",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a contact sheet, .png or .html.",
)
@click.option(
    "-n",
    "count",
    default=60,
    show_default=True,
    type=click.IntRange(min=1),
    help="Photos on the contact sheet: the strongest, some between, the weakest.",
)
@exact_places_option
@catalog_option
@format_option
def show(
    cluster_id: str, sheet: Path | None, count: int, exact_places: bool, catalog: Path, fmt: str
) -> None:
    """Show the photos of the cluster ID, the strongest first; "outliers" shows those of none."""
    from birdsearch.errors import InvalidInputError
    from birdsearch.indexer.catalog.clusters import require_state
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.search.clusters.report import member_rows, overview
    from birdsearch.search.export.cluster_files import write_cluster_sheet

    if cluster_id != _OUTLIERS and not (cluster_id.isascii() and cluster_id.isdigit()):
        raise click.UsageError(f"{cluster_id!r} is no cluster id")
    with CatalogStore.open(catalog) as store:
        state = require_state(store)
        found = overview(store, state, sensitive_photos(store, exact_places=exact_places))
        if cluster_id == _OUTLIERS:
            row, wanted = found.outliers, None
        else:
            wanted = int(cluster_id)
            state.rows(wanted)
            row = next(each for each in found.rows if each.id == wanted)
        if row is None:
            raise InvalidInputError("there are no outliers")
        rows = [each for each in member_rows(found) if each["cluster_id"] == wanted]
        keys = [*(("cluster_id", "cluster_id"), ("name", "name")), *((key, key) for key, _ in _MEMBERS)]
        if sheet is not None:
            write_cluster_sheet(sheet, found, row, count)
            click.echo(f"contact sheet: {sheet}", err=True)
    write_rows(rows, _MEMBERS if fmt == "table" else keys, fmt)


for _command in (name, merge, split, label, undo):
    cluster.add_command(_command)


# -- printing ------------------------------------------------------------------------------------------------


def _print(found: Overview, fmt: str) -> None:
    rows = [*found.rows, *([found.outliers] if found.outliers is not None else [])]
    if fmt == "json":
        check = found.check
        write_json(
            {
                "run": found.state.run_id,
                "clustering": found.clustering.run_id,
                "method": found.clustering.method,
                "parameters": found.clustering.parameters.get("parameters", {}),
                "scores": found.clustering.parameters.get("scores", {}),
                "purity": found.purity,
                "clusters": [_record(row) for row in found.rows],
                "outliers": None if found.outliers is None else _record(found.outliers),
                "site_check": None
                if check is None
                else {
                    **dataclasses.asdict(check),
                    "one_site": {
                        str(key): {"site": site, "share": share}
                        for key, (site, share) in check.one_site.items()
                    },
                    "is_warning": check.is_warning,
                },
                "warnings": list(found.warnings),
            }
        )
    elif fmt == "csv":
        write_rows([_record(row) for row in rows], [(key, key) for key in _CLUSTER_KEYS], "csv")
    else:
        shown = [_for_people(row, found.members.site_kind) for row in rows]
        titles = dict(_CLUSTERS) | {"sites": f"{found.members.site_kind.capitalize()}s"}
        # A column in which nothing stands says nothing.
        used = [key for key in titles if not rows or any(row[key] not in ("", None) for row in shown)]
        if sys.stdout.isatty():
            _fit(used, titles, shown, shutil.get_terminal_size().columns)
        write_rows(shown, [(key, titles[key]) for key in used], "table")
    _summarise(found)


def _fit(
    used: list[str], titles: Mapping[str, str], rows: Sequence[Mapping[str, object]], width: int
) -> None:
    """Leave columns out that a narrow terminal has no room for: better than to cut all of them short."""
    needed = {
        key: max([len(titles[key]), *(len(str(row[key])) for row in rows if row[key] is not None)])
        for key in used
    }
    for key in ("last", "first", "note", "sites"):
        if sum(needed[each] + 2 for each in used) - 2 > width and key in used:
            used.remove(key)


def _record(row: ClusterRow) -> dict[str, object]:
    values = dataclasses.asdict(row)
    return {"cluster_id": values.pop("id"), **values}


def _for_people(row: ClusterRow, kind: str) -> dict[str, object]:
    said = ""
    if row.label is not None:
        said = row.label if row.verified else f"{row.label} (estimate, {row.label_share:.0%})"
    return {
        "cluster": _OUTLIERS if row.id is None else str(row.id),
        "name": row.name,
        "photos": row.photos,
        "events": row.events,
        "strength": None if row.id is None else round(row.strength, 3),
        "sites": row.sites or None,
        "first": (row.first or "")[:10],
        "last": (row.last or "")[:10],
        "label": said,
        "purity": "" if row.purity is None else f"{row.purity:.0%} of {row.judged}",
        "note": "" if row.one_site is None else f"one {kind}",
    }


def _summarise(found: Overview) -> None:
    """Print one line of what was done, and the warnings, on stderr."""
    clustering = found.clustering
    outliers = 0 if found.outliers is None else found.outliers.photos
    given = clustering.parameters.get("parameters", {})
    shown = ", ".join([clustering.method, *(f"{key} {_short(value)}" for key, value in given.items())])
    line = (
        f"{len(found.rows)} clusters and {outliers} outliers of {len(found.state.view_ids)} photos ({shown})"
    )
    if found.state.based_on is None and clustering.parameters.get("kept"):
        line += f"; {clustering.parameters['kept']} clusters known from before"
    if found.purity is not None:
        line += f"; purity {found.purity:.0%}"
    click.echo(line, err=True)
    for warning in found.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if found.check is not None and not found.check.is_warning:
        click.echo(found.check.sentence, err=True)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write_files(store: CatalogStore, found: Overview, report: Path | None, out: Path | None) -> None:
    from birdsearch.search.export.cluster_files import write_members, write_report

    if out is not None:
        write_members(out, found)
        click.echo(f"members: {out}", err=True)
    if report is not None:
        with _bar() as progress:
            files = write_report(store, found, report, progress)
        for note in files.notes:
            click.echo(f"Note: {note}", err=True)
        click.echo(f"report: {files.page}", err=True)
