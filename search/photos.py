"""A photo of the catalog as it is shown: frozen, and the same for Python, JSON, OpenAPI and the client."""

from __future__ import annotations

from dataclasses import dataclass, field

from birdsearch.model.images.box import Box
from birdsearch.search.json_records import SHARE, Record

__all__ = ["GivenLabel", "Photo", "PhotoFile", "PhotoLabel", "PhotoView"]


@dataclass(frozen=True, slots=True)
class PhotoFile(Record):
    """A file with a photo's content.

    Attributes:
        path: Path as it is shown.
        state: `present`, `missing` or `error`.
    """

    path: str
    state: str


@dataclass(frozen=True, slots=True)
class PhotoView(Record):
    """A region of a photo that has an embedding.

    Attributes:
        view_id: Its id.
        kind: `whole`, `tile` or `box`.
        box: x, y, w, h in parts of the upright frame.
    """

    view_id: int
    kind: str
    box: Box


@dataclass(frozen=True, slots=True)
class PhotoLabel(Record):
    """What a photo is taken for: by the last `label` run, else by the network alone.

    Attributes:
        name: The label, at the finest rank that is as sure as was asked.
        scientific_name: Its scientific name, or None.
        rank: `species`, `genus`, `family`, `order` or `bird`.
        probability: That `name` is right, 0..1.
        species: The likeliest label, whatever the rank of `name`.
        species_probability: Its probability, 0..1.
        p_model: What the network alone says, 0..1, or None.
        p_knn: What the verified neighbours alone say, 0..1, or None.
        unknown: That the bird is of no known label, 0..1, or None.
    """

    name: str
    scientific_name: str | None
    rank: str
    probability: float = field(metadata=SHARE)
    species: str
    species_probability: float = field(metadata=SHARE)
    p_model: float | None = field(metadata=SHARE)
    p_knn: float | None = field(metadata=SHARE)
    unknown: float | None = field(metadata=SHARE)


@dataclass(frozen=True, slots=True)
class GivenLabel(Record):
    """A label in force that somebody gave.

    Attributes:
        taxon: What the photo was said to show, or not to show.
        scientific_name: The scientific name of that, or None.
        verdict: `positive`, `negative` or `uncertain`.
        who: Who said so.
        at: When, UTC, ISO 8601.
        source: How it was recorded, such as the name of a table.
    """

    taxon: str
    scientific_name: str | None
    verdict: str
    who: str
    at: str
    source: str


@dataclass(frozen=True, slots=True)
class Photo(Record):
    """A photo of the catalog.

    Attributes:
        id: Its id.
        path: Path of its first file that is there, from the name of its root on; empty if it has none.
        files: Every file with its content.
        width: Pixels, upright.
        height: Pixels, upright.
        format: Format of its file.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        lat: Degrees north, or None.
        lon: Degrees east, or None.
        coarse: True if the place is given to 0.1 degree only, as the species is sensitive.
        camera: Make and model, or None.
        lens: Lens model, or None.
        views: Its regions with an embedding.
        label: What it is taken for, or None.
        verified: Verified labels in force.
        thumb: Address of its thumbnail, below that of the service.
        image: Address of the photo itself, where the service gives it, or None.
    """

    id: int
    path: str
    files: tuple[PhotoFile, ...]
    width: int
    height: int
    format: str
    captured_at: str | None
    lat: float | None
    lon: float | None
    coarse: bool
    camera: str | None
    lens: str | None
    views: tuple[PhotoView, ...]
    label: PhotoLabel | None
    verified: tuple[GivenLabel, ...]
    thumb: str
    image: str | None
