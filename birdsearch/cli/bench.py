"""`birdsearch bench`: recall against time of searching this catalog."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from birdsearch.cli.output import Column, catalog_option, format_option, write_json, write_rows

__all__ = ["bench"]

_COLUMNS: list[Column] = [
    ("search", "Search"),
    ("effort", "Effort"),
    ("recall", "Recall"),
    ("alone_ms", "Alone, ms"),
    ("per_second", "Together, 1/s"),
]


@click.command(short_help="Measure recall and speed of search.")
@catalog_option
@click.option("-k", default=20, show_default=True, type=click.IntRange(min=1), help="Neighbours of each.")
@click.option(
    "--queries", default=200, show_default=True, type=click.IntRange(min=1), help="Stored vectors to ask for."
)
@click.option(
    "--lists",
    is_flag=True,
    help="Where all vectors are looked at, measure lists too: how a larger catalog is searched.",
)
@format_option
def bench(catalog: Path, k: int, queries: int, lists: bool, fmt: str) -> None:
    """Measure how well and how fast this catalog is searched, exactly and in lists of near vectors.

    Up to 200,000 vectors a search looks at all of them; beyond, at those in the nearest lists. Recall is the
    share of the true nearest that is found. Effort 1 is what searches use: as many vectors are looked at as were
    measured to suffice when the vector index was written. The catalog is only read.
    """
    from birdsearch.errors import CatalogError
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.vectors.index import VectorIndex
    from birdsearch.search.query.recall_benchmark import measure_search

    with CatalogStore.open(catalog) as store:
        record = store.active_model()
        if record is None:
            raise CatalogError(f"{catalog}: no photo is indexed yet; run `birdsearch index FOLDER`")
        index = VectorIndex.open(store, record.id, record.embedding_size)
        found = measure_search(index, k, queries, make_lists=lists)
        count = len(index)
    for warning in index.warnings:
        click.echo(f"Warning: {warning}", err=True)
    rows = [dataclasses.asdict(measure) for measure in found]
    if fmt == "json":
        write_json({"vectors": count, "k": k, "searches": rows})
        return
    if fmt == "table":
        rows = [
            row
            | {
                "effort": "" if row["effort"] is None else f"{row['effort']:g}",
                "recall": f"{row['recall']:.4f}",
                "alone_ms": f"{row['alone_ms']:.2f}",
                "per_second": f"{row['per_second']:.0f}",
            }
            for row in rows
        ]
    write_rows(rows, _COLUMNS, fmt)
    if fmt == "table":
        click.echo(f"{count} vectors, k {k}")
