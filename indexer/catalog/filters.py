"""The table of filters: which photos a search looks at, and how users say so.

The options of the commands and the query parameters, JSON and requests of service and client follow from `FILTERS`.
A filter on a text of the photo is one entry with its `column`, and a field of `Where`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError
from birdsearch.partial_dates import Moment, first_and_last

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from birdsearch.indexer.catalog.store import Snapshot

__all__ = ["FILTERS", "CoarsePlaces", "Filter", "Folder", "Moment", "Where", "parse_bbox", "parse_near"]

Folder = str | bytes | os.PathLike[str] | os.PathLike[bytes]
"""A folder (or a single file), absolute or relative to the current folder."""


class CoarsePlaces(Protocol):
    """Coarsens the places that are not shown exactly."""

    def among(self, photo_ids: Sequence[int]) -> frozenset[int]:
        """Return those of the photos whose places are not shown exactly."""

    def coarsened(
        self,
        snapshot: Snapshot,
        photo_ids: NDArray[np.int64],
        latitudes: NDArray[np.float64],
        longitudes: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the places of photos, (N,) degrees each, as they are shown to others; NaN stays NaN."""


@dataclass(frozen=True, slots=True)
class Where:
    """Conditions on photos; all that are given must hold.

    A photo that lacks a fact (no time, no place, no camera) does not meet a condition on it.

    Attributes:
        since: Taken at this local time or later. A year, month or day counts from its first moment.
        until: Taken at this time or earlier. A year, month, day, minute or second counts to its last moment.
        near: (latitude, longitude, kilometres): taken within this great-circle distance of the place.
        bbox: (south, west, north, east) in degrees, borders included; `west` greater than `east` crosses the
            antimeridian.
        camera: Part of the make and model, in any case; with `*`, `?` or `[`, a pattern of the whole.
        under: Folders: the photo has a file in one of them, at any depth.
        exclude_under: Folders whose files do not count: a photo is left out if all its files (all of those in
            `under`, where that is given) are in one of these. A copy elsewhere keeps a photo in.
        lens: Part of the lens's name, or a pattern, as `camera`.
        taxon: Name of a species, genus, family or order: a verified positive label in force says that the photo
            shows it, or what belongs to it.
        verified: True for photos with a verified positive label in force, False for those without one.
        coarse_by: No condition. Coarsens the places of sensitive species for `near` and `bbox` as they are shown
            to others, so that asking again and again does not tell where such a photo was taken. None to look at
            all places as they are.

    Raises:
        InvalidInputError: A value is outside its limits.
    """

    since: Moment | None = None
    until: Moment | None = None
    near: tuple[float, float, float] | None = None
    bbox: tuple[float, float, float, float] | None = None
    camera: str | None = None
    lens: str | None = None
    under: Sequence[Folder] = ()
    exclude_under: Sequence[Folder] = ()
    taxon: str | None = None
    verified: bool | None = None
    coarse_by: CoarsePlaces | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        earliest, latest = self.span
        if earliest is not None and latest is not None and earliest > latest:
            raise InvalidInputError(f"since {self.since} is after until {self.until}; swap them")
        if self.near is not None:
            _check_near(self.near)
        if self.bbox is not None:
            _check_bbox(self.bbox)
        for name in ("under", "exclude_under"):
            if isinstance(getattr(self, name), str | bytes | os.PathLike):
                raise InvalidInputError(f"{name} takes a list of folders; put a single folder into a list")
        for each in FILTERS:
            text = None if each.column is None else getattr(self, each.name)
            if text is not None and not text.strip():
                raise InvalidInputError(f"{each.name} is empty; give a part of it, such as {each.example!r}")
        if self.taxon is not None and not self.taxon.strip():
            raise InvalidInputError("taxon is empty; give the name of a species, genus, family or order")
        if self.verified not in (None, True, False):
            raise InvalidInputError(f"verified is {self.verified!r}; it is True, False or None")

    @classmethod
    def from_given(cls, given: Mapping[str, Any], coarse_by: CoarsePlaces | None = None) -> Where:
        """Return the conditions of an option or request, by name; None is no condition.

        Raises:
            InvalidInputError: A value is outside its limits.
        """
        values: dict[str, Any] = {
            each.name: given[each.name] if each.parse is None else each.parse(given[each.name])
            for each in FILTERS
            if given.get(each.name) is not None
        }
        return cls(**values, coarse_by=coarse_by)

    @property
    def span(self) -> tuple[datetime | None, datetime | None]:
        """The first and the last moment that `since` and `until` admit."""
        return (
            None if self.since is None else first_and_last(self.since, "since")[0],
            None if self.until is None else first_and_last(self.until, "until")[1],
        )

    @property
    def is_empty(self) -> bool:
        """True if there are no conditions."""
        return self == Where()

    @property
    def needs_places(self) -> bool:
        """True if a condition cannot be decided in SQL, but by the places of the photos."""
        return self.near is not None or (self.bbox is not None and self.coarse_by is not None)


def parse_near(text: str) -> tuple[float, float, float]:
    """Parse `LAT,LON,KM`.

    Raises:
        InvalidInputError: It is not three numbers within their limits.
    """
    lat, lon, km = _numbers(text, 3, "near", "LAT,LON,KM, such as 47.5,9.2,10")
    _check_near((lat, lon, km))
    return lat, lon, km


def parse_bbox(text: str) -> tuple[float, float, float, float]:
    """Parse `S,W,N,E`.

    Raises:
        InvalidInputError: It is not four numbers within their limits.
    """
    south, west, north, east = _numbers(text, 4, "bbox", "SOUTH,WEST,NORTH,EAST, such as 46,6,48,10.5")
    _check_bbox((south, west, north, east))
    return south, west, north, east


def _numbers(text: str, count: int, name: str, form: str) -> list[float]:
    parts = text.split(",")
    try:
        values = [float(part) for part in parts]
    except ValueError:
        values = []
    if len(values) != count:
        raise InvalidInputError(
            f"{name} {text!r} must be {count} numbers {form}, in degrees with a decimal point"
        )
    return values


def _check_range(name: str, what: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise InvalidInputError(f"{name}: the {what} {value:g} is not within {low:g} to {high:g} degrees")


def _check_near(near: tuple[float, float, float]) -> None:
    lat, lon, km = near
    _check_range("near", "latitude", lat, -90, 90)
    _check_range("near", "longitude", lon, -180, 180)
    if not (math.isfinite(km) and km > 0):
        raise InvalidInputError(f"near: the distance {km:g} must be more than 0 km")


def _check_bbox(bbox: tuple[float, float, float, float]) -> None:
    south, west, north, east = bbox
    _check_range("bbox", "southern latitude", south, -90, 90)
    _check_range("bbox", "northern latitude", north, -90, 90)
    _check_range("bbox", "western longitude", west, -180, 180)
    _check_range("bbox", "eastern longitude", east, -180, 180)
    if south > north:
        raise InvalidInputError(
            f"bbox: the south {south:g} is above the north {north:g}; the order is SOUTH,WEST,NORTH,EAST"
        )


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition that users can give.

    Attributes:
        name: Of the option, the query parameter and the field of `Where`.
        help: One sentence.
        example: A value, as `Where.from_given` takes it.
        metavar: What the help of a command shows for the value.
        kind: `text` is one text, `folders` a list of paths, `flag` yes or no.
        parse: Makes the value of `Where` of the text; None to take it as it is.
        column: Column of `photo` whose text is matched by part or pattern; None for a condition of its own.
        negation: Name of the option that says no to a flag.
    """

    name: str
    help: str
    example: str | bool | tuple[str, ...]
    metavar: str = "TEXT"
    kind: Literal["text", "folders", "flag"] = "text"
    parse: Callable[[str], object] | None = None
    column: str | None = None
    negation: str | None = None

    def to_json(self, value: object) -> object:
        """Return a value of `Where` as requests carry it; None if it is no condition."""
        if self.kind == "folders":
            return [display_path(os.fsencode(folder)) for folder in cast("Sequence[Folder]", value)] or None
        if isinstance(value, date):
            return value.isoformat()
        if isinstance(value, Sequence) and not isinstance(value, str):
            return ",".join(repr(float(number)) for number in value)
        return value


FILTERS = (
    Filter("since", "Taken then or later, local time: 2023, 2023-05, 2023-05-14T06:30.", "2024-05", "TIME"),
    Filter("until", "Taken then or earlier; a year, month or day counts to its end.", "2024", "TIME"),
    Filter(
        "near",
        "Taken within so many kilometres of a place.",
        "47.5,9.2,10",
        "LAT,LON,KM",
        parse=parse_near,
    ),
    Filter(
        "bbox",
        "Taken within these degrees; W > E crosses the antimeridian.",
        "46,6,48,10.5",
        "S,W,N,E",
        parse=parse_bbox,
    ),
    Filter(
        "camera",
        "Part of the camera's make and model, or a pattern: 'nikon*z*'.",
        "nikon",
        column="camera",
    ),
    Filter("lens", "Part of the lens's name, or a pattern: '*100-400*'.", "100-400", column="lens"),
    Filter("under", "Has a file in one of these folders.", ("archive/2024",), "DIR", "folders"),
    Filter(
        "exclude_under", "Leave out what is only in one of these folders.", ("archive/old",), "DIR", "folders"
    ),
    Filter("taxon", "Verified to be this species, or of this genus, family or order.", "Barn Owl", "NAME"),
    Filter("verified", "Has a verified label, or has none.", True, kind="flag", negation="unverified"),
)
"""Every filter, in the order in which users see them."""
