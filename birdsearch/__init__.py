"""birdsearch: embedding vector search for bird photos.

Importing this package is cheap: torch, faiss and onnxruntime are loaded when they are first needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from birdsearch.version import __version__

if TYPE_CHECKING:
    from birdsearch.client import Client
    from birdsearch.search.catalog import Catalog

__all__ = ["Catalog", "Client", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Catalog":
        from birdsearch.search.catalog import Catalog

        return Catalog
    if name == "Client":
        from birdsearch.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
