"""`birdsearch index`: bring the catalog up to date with folders of photos."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from birdsearch.cli.output import catalog_option, format_option, write_rows

if TYPE_CHECKING:
    from birdsearch.indexer.pipeline import IndexSummary

__all__ = ["index"]


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path))
@catalog_option
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    help="Weights file (.pt or .safetensors) instead of the published one, or of the catalog's.",
)
@click.option("--model", "model_name", help="Name of the weights; see `birdsearch model list`.")
@click.option("--reembed", is_flag=True, help="Accept another model than the catalog's: embed every photo again.")
@click.option("--confirm-missing", is_flag=True, help="Believe it when a folder is gone, empty, or mostly gone.")
@click.option("--retry-failed", is_flag=True, help="Read again what could not be read before.")
@click.option("--follow-links", is_flag=True, help="Enter links that lead out of the folder.")
@click.option("--workers", type=click.IntRange(1, 64), help="Decoder processes.  [default: one a core]")
@click.option("--batch-size", type=click.IntRange(1, 1024), default=32, show_default=True, help="Photos a batch.")
@click.option("--device", default="auto", show_default=True, help="cpu, cuda, or auto.")
@format_option
def index(
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
    device: str,
    output_format: str,
) -> None:
    """Find photos under FOLDERS, embed those that are new, and remember all of it in the catalog.

    Run it again whenever photos were added, moved or edited: what is known is not read again. A photo that
    cannot be read is recorded with its reason and the run goes on. Photos are never changed.
    """
    from birdsearch.indexer.pipeline import IndexOptions, resolve_roots
    from birdsearch.search.engine import Catalog

    # Before the network is loaded: a mistyped folder is told at once.
    resolve_roots(folders, allow_missing=confirm_missing)
    options = IndexOptions(
        batch_size=batch_size,
        follow_links=follow_links,
        retry_failed=retry_failed,
        confirm_missing=confirm_missing,
        reembed=reembed,
        **({} if workers is None else {"workers": workers}),
    )
    with Catalog.open(catalog, mode="create", purpose="birdsearch index") as opened:
        model = opened.load_model(weights or model_name, device=device)
        with _Bars() as bars:
            summary = opened.index(folders, model=model, options=options, progress=bars)
    for warning in summary.warnings:
        click.echo(f"Warning: {warning}", err=True)
    _write_summary(summary, output_format)
    if output_format == "table" and summary.failed:
        click.echo(f"\nWhy files failed: birdsearch status --failures --catalog {catalog}", err=True)


class _Bars:
    """Progress on stderr, only if it is a terminal."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._off = not sys.stderr.isatty()
        self._scan = tqdm(desc="scanning", unit=" files", disable=self._off, leave=False)
        self._read: tqdm[None] | None = None

    def scanned(self, files: int) -> None:
        self._scan.update(files - self._scan.n if files > self._scan.n else files)

    def planned(self, files: int) -> None:
        from tqdm import tqdm

        self._scan.close()
        self._read = tqdm(total=files, desc="indexing", unit=" photos", disable=self._off, smoothing=0.05)

    def committed(self, files: int) -> None:
        if self._read is not None:
            self._read.update(files)

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._scan.close()
        if self._read is not None:
            self._read.close()


def _write_summary(summary: IndexSummary, output_format: str) -> None:
    rows: list[dict[str, object]] = [
        {"what": name, "count": count, "detail": detail}
        for name, count, detail in (
            ("new", summary.new, ""),
            ("copies", summary.copies, "another path to a photo that is known"),
            ("changed", summary.changed, ""),
            ("moved", summary.moved, "not embedded again"),
            ("unchanged", summary.unchanged, ""),
            ("embedded again", summary.reembedded, ""),
            ("missing", summary.missing, "kept: they may come back"),
        )
        if count or name in {"new", "unchanged"} or output_format != "table"
    ]
    rows += [{"what": "failed", "count": count, "detail": code} for code, count in summary.failed.items()]
    rows += [
        {"what": "not photos", "count": count, "detail": suffix or "(no suffix)"}
        for suffix, count in summary.ignored.items()
    ]
    write_rows(rows, [("what", "What"), ("count", "Files"), ("detail", "")], output_format)
    if output_format == "table":
        click.echo(
            f"\n{summary.embedded} photos embedded in {summary.seconds:.1f} s ({summary.photos_per_second:.1f} photos/s)"
        )
