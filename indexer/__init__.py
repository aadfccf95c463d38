"""Crawling photo archives into a catalog: SQLite as the only truth, FAISS as its follower."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.options import IndexOptions
    from birdsearch.indexer.pipeline import IndexSummary, index_archive

__all__ = ["CatalogStore", "IndexOptions", "IndexSummary", "index_archive"]

_HOMES = {
    "CatalogStore": "catalog.store",
    "IndexOptions": "options",
    "IndexSummary": "pipeline",
    "index_archive": "pipeline",
}


def __getattr__(name: str) -> object:
    import importlib

    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
