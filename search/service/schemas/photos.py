"""Answers of the endpoints of photos, beside single records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from birdsearch.search.annotate.records import FoundTaxon
from birdsearch.search.json_records import Record
from birdsearch.search.photos import Photo

__all__ = ["PhotoIds", "PhotoPage", "Sort", "Taxa"]

Sort = Literal["captured_at", "-captured_at", "id", "-id"]
"""Order of photos; those without a time come last."""


@dataclass(frozen=True, slots=True)
class PhotoPage(Record):
    """Some photos and where the next are.

    Attributes:
        photos: The photos.
        next: Passed as `cursor`, it asks for the photos after these; None at the end.
        total: Photos that meet the conditions.
    """

    photos: tuple[Photo, ...]
    next: str | None
    total: int


@dataclass(frozen=True, slots=True)
class PhotoIds(Record):
    """All photos that meet the conditions.

    Attributes:
        ids: Their ids, in order.
    """

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Taxa(Record):
    """Taxa by name.

    Attributes:
        taxa: The best first.
    """

    taxa: tuple[FoundTaxon, ...]
