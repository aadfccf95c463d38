"""`birdsearch index`: bring the catalog up to date with folders of photos."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from birdsearch.cli.interruption import saying_what_is_kept
from birdsearch.cli.output import catalog_option, format_option, printable, write_json, write_rows
from birdsearch.cli.progress import IndexBars, download_bar
from birdsearch.cli.runtime_option import runtime_option

if TYPE_CHECKING:
    from birdsearch.cli.watchdog import Watchdog
    from birdsearch.indexer.catalog.records import FailureRecord
    from birdsearch.indexer.pipeline import IndexSummary
    from birdsearch.settings import Settings

__all__ = ["index"]


@click.command(short_help="Embed the photos under folders.")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@catalog_option
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights file (.pt or .safetensors) instead of the published one, or of the catalog's.",
)
@click.option("--model", "model_name", help="Name of the weights; see `birdsearch model list`.")
@click.option("--reembed", is_flag=True, help="Change to another model: embed every photo again.")
@click.option(
    "--confirm-missing", is_flag=True, help="Believe it when a folder is gone, empty, or mostly gone."
)
@click.option("--retry-failed", is_flag=True, help="Read again what could not be read before.")
@click.option("--follow-links", is_flag=True, help="Enter links that lead out of the folder.")
@click.option("--workers", type=click.IntRange(1, 64), help="Decoder processes.  [default: one a core]")
@click.option(
    "--batch-size", type=click.IntRange(1, 1024), default=32, show_default=True, help="Photos a batch."
)
@click.option(
    "--decode",
    type=click.Choice(["scaled", "full", "preview"]),
    default="scaled",
    show_default=True,
    help="scaled: photos no larger than the network needs; full: every pixel, slower; preview: the camera's "
    "own preview where it is large enough, fastest.",
)
@runtime_option
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@format_option
@click.pass_obj
def index(
    watchdog: Watchdog | None,
    folders: tuple[Path, ...],
    catalog: Path,
    weights: Path | None,
    model_name: str | None,
    reembed: bool,
    confirm_missing: bool,
    retry_failed: bool,
    follow_links: bool,
    workers: int | None,
    batch_size: int,
    decode: str,
    settings: Settings,
    device: str,
    fmt: str,
) -> None:
    """Find photos under FOLDERS, embed those that are new, and remember all of it in the catalog.

    Run it again whenever photos were added, moved or edited: what is known is not read again. A photo that
    cannot be read is recorded with its reason and the run goes on. Photos are never changed.
    """
    from birdsearch.indexer.catalog.roots import resolve_roots
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.model.weights import DEFAULT_WEIGHTS, resolve_weights
    from birdsearch.search.catalog import Catalog

    if weights is not None and model_name is not None:
        raise click.UsageError("--weights and --model exclude each other")
    # Before a catalog is made and torch is loaded: a mistyped folder or file is reported at once.
    roots = resolve_roots(folders, allow_missing=confirm_missing)
    source = weights or model_name
    if source is None and not CatalogStore.exists(catalog):
        source = DEFAULT_WEIGHTS
    if source is not None:
        with download_bar(str(source)) as downloading:
            resolve_weights(source, settings, download=True, progress=downloading)
    options: dict[str, Any] = {
        "batch_size": batch_size,
        "follow_links": follow_links,
        "retry_failed": retry_failed,
        "confirm_missing": confirm_missing,
        "reembed": reembed,
        "decode": decode,
    }
    if workers is not None:
        options["workers"] = workers
    bars = IndexBars()
    with (
        saying_what_is_kept(catalog, bars),
        bars,
        Catalog.open(catalog, "create", device=device, settings=settings) as opened,
    ):
        # What each stage allows itself is watched by the run; that the run does so, by the watchdog.
        on_tick = (lambda _: None) if watchdog is None else watchdog.note
        summary = opened.index(folders, source, progress=bars, on_tick=on_tick, **options)
        # Those of before that have not changed since are counted in the summary too.
        failures = opened.store.failures() if summary.failed and fmt == "table" else []
    for warning in summary.warnings:
        click.echo(f"Warning: {warning}", err=True)
    if fmt == "json":
        write_json(dataclasses.asdict(summary))
    else:
        _write_summary(summary, fmt)
    beginnings = tuple(root.rstrip(b"/") + b"/" for root in roots)
    _write_reasons([one for one in failures if one.path.startswith(beginnings)], catalog)


def _write_reasons(failures: Sequence[FailureRecord], catalog: Path) -> None:
    from birdsearch.indexer.failures import group_failures

    if not failures:
        return
    click.echo("\nWhat could not be read:", err=True)
    for group in group_failures(failures):
        click.echo(f"  {printable(group.line())}", err=True)
    click.echo(
        f"Which files: birdsearch status --failures --verbose --catalog {shlex.quote(str(catalog))}", err=True
    )


def _write_summary(summary: IndexSummary, fmt: str) -> None:
    rows: list[dict[str, object]] = [
        {"what": name, "count": count, "detail": detail}
        for name, count, detail in (
            ("new", summary.new, ""),
            ("copies", summary.copies, "another path to a photo that is known"),
            ("changed", summary.changed, "another picture than before"),
            ("metadata edited", summary.edited, "the same picture: labels stay"),
            ("moved", summary.moved, "not embedded again"),
            ("unchanged", summary.unchanged, ""),
            ("embedded again", summary.reembedded, ""),
            ("read again", summary.reread, "this version reads more; not embedded again"),
            ("missing", summary.missing, "kept: they may come back"),
        )
        if count or name in {"new", "unchanged"} or fmt != "table"
    ]
    rows += [{"what": "failed", "count": count, "detail": code} for code, count in summary.failed.items()]
    rows += [
        {"what": "not photos", "count": count, "detail": suffix or "(no suffix)"}
        for suffix, count in summary.ignored.items()
    ]
    write_rows(rows, [("what", "What"), ("count", "Files"), ("detail", "Note")], fmt)
    if fmt == "table":
        took = f"{summary.seconds:.1f} s"
        if summary.embedded:
            took += f", {summary.photos_per_second:.1f} photos/s"
        click.echo(f"\n{summary.embedded} photos embedded ({took})")
        if summary.timings.busy:
            click.echo(_bottleneck(summary))


def _bottleneck(summary: IndexSummary) -> str:
    """Describe on one line where the time went."""
    timings = summary.timings
    (slowest, most), *others = timings.busy.items()
    rest = ", ".join(f"{stage} {share:.0%}" for stage, share in others)
    cores = (timings.cpu + timings.decoders_cpu) / summary.seconds
    return (
        f"The rest waited for {slowest}, busy {most:.0%} of the time ({rest}); {cores:.1f} cores in use, "
        f"{timings.scanning + timings.starting:.1f} s to scan and start"
    )
