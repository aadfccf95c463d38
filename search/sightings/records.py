"""A sighting as it is shown: frozen, and the same for JSON, OpenAPI and the client."""

from __future__ import annotations

from dataclasses import dataclass

from birdsearch.search.json_records import Record

__all__ = ["Sighting"]


@dataclass(frozen=True, slots=True)
class Sighting(Record):
    """Birds of one kind at one place in one go.

    Attributes:
        id: Its number among those that were found last.
        taxon: What was verified, else the finest label that is sure enough, or None.
        scientific_name: The scientific name of that, or None.
        rank: Its rank, or None.
        probability: That `taxon` is right, 0..1; None where it was verified.
        verified: True if somebody verified it.
        first: Time of the first photo, local, or None.
        last: Time of the last photo, local, or None.
        photos: How many.
        frames: Exposures: copies of a photo count once.
        events: How many events it joins.
        cameras: How many cameras saw it.
        photo_ids: The photo that shows it best, then others in order of time: in lists up to 12 of them.
        site: Where, or None.
        lat: Degrees north, or None.
        lon: Degrees east, or None.
        coarse: True if the place is given to 0.1 degree only, as the species is sensitive.
    """

    id: int
    taxon: str | None
    scientific_name: str | None
    rank: str | None
    probability: float | None
    verified: bool
    first: str | None
    last: str | None
    photos: int
    frames: int
    events: int
    cameras: int
    photo_ids: tuple[int, ...]
    site: str | None
    lat: float | None
    lon: float | None
    coarse: bool
