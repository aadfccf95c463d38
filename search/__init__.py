"""Finding photos that look alike, and naming what is on them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birdsearch.search.engine import Catalog
    from birdsearch.search.filters import Where
    from birdsearch.search.results import Hit, LabelEstimate, LabelEvidence, QueryPhoto, QueryResult, Voter
    from birdsearch.search.sheet import write_sheet

__all__ = [
    "Catalog",
    "Hit",
    "LabelEstimate",
    "LabelEvidence",
    "QueryPhoto",
    "QueryResult",
    "Voter",
    "Where",
    "write_sheet",
]

_HOMES = {
    "Catalog": "engine",
    "Hit": "results",
    "LabelEstimate": "results",
    "LabelEvidence": "results",
    "QueryPhoto": "results",
    "QueryResult": "results",
    "Voter": "results",
    "Where": "filters",
    "write_sheet": "sheet",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
