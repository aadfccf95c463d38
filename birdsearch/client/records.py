"""What the service tells of its catalog, photos and labels: frozen, as it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from birdsearch.search.query.hits import LabelEstimate, LabelEvidence

__all__ = [
    "CatalogInfo",
    "CatalogPhoto",
    "NetworkInfo",
    "PhotoFile",
    "PhotoLabel",
    "PhotoView",
    "Recorded",
    "RecordedLabel",
    "ReviewItem",
    "RootInfo",
    "Taxon",
    "VerifiedLabel",
]


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """The network that the catalog's photos were embedded with."""

    name: str
    classes: int
    embedding_size: int


@dataclass(frozen=True, slots=True)
class RootInfo:
    """A folder that was indexed: its name, with which the paths of its photos begin, and how many there are."""

    id: int
    name: str
    photos: int


@dataclass(frozen=True, slots=True)
class CatalogInfo:
    """The catalog that a service shows.

    Attributes:
        name: Its folder's name.
        photos: Distinct photos.
        verified_photos: Those with a verified positive label.
        files_missing: Files that were there once.
        model: The network, or None before the first photo.
        version: Version of birdsearch that answers.
        features: What the service was started to allow: `originals`, `apply`, `read_only`, `token`, `exact_places`.
        cameras: Makes and models.
        roots: The folders that were indexed.
        first: Earliest capture time, or None.
        last: Latest capture time, or None.
    """

    name: str
    photos: int
    verified_photos: int
    files_missing: int
    model: NetworkInfo | None
    version: str
    features: Mapping[str, bool]
    cameras: tuple[str, ...]
    roots: tuple[RootInfo, ...]
    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class PhotoFile:
    """A file with a photo's content: where it is shown to be, and `present` or `missing`."""

    path: str
    state: str


@dataclass(frozen=True, slots=True)
class PhotoView:
    """A region of a photo that has a vector; `box` is x, y, w, h in parts of the upright frame."""

    view_id: int
    kind: str
    box: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PhotoLabel:
    """What a photo is taken for.

    Attributes:
        name: The label, at the finest rank that is sure enough.
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
    probability: float
    species: str
    species_probability: float
    p_model: float | None
    p_knn: float | None
    unknown: float | None


@dataclass(frozen=True, slots=True)
class VerifiedLabel:
    """What somebody verified a photo to show, or not to show."""

    taxon: str
    scientific_name: str | None
    verdict: str
    who: str
    at: str
    source: str


@dataclass(frozen=True, slots=True)
class RecordedLabel:
    """A label that was recorded for a photo, and what became of it.

    Attributes:
        annotation_id: Its id.
        photo_id: The photo.
        view_id: The view of it that was labelled.
        taxon: What it was said to show, or not to show.
        scientific_name: The scientific name of that.
        verdict: `positive`, `negative` or `uncertain`.
        who: Who said so.
        at: When, UTC, ISO 8601.
        source: How it was recorded.
        run_id: What `Client.undo` takes back.
        in_force: True if it counts now.
        replaces: The label that it ended, or None.
        undone_by: The run that took it back, or None.
    """

    annotation_id: int
    photo_id: int
    view_id: int
    taxon: str
    scientific_name: str
    verdict: str
    who: str
    at: str
    source: str
    run_id: int
    in_force: bool
    replaces: int | None
    undone_by: int | None


@dataclass(frozen=True, slots=True)
class CatalogPhoto:
    """A photo of the catalog.

    Attributes:
        id: Its id.
        path: Where it is, from the name of its root on.
        files: Every file with its content.
        width: Pixels, upright.
        height: Pixels, upright.
        format: Format of its file.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        lat: Degrees north, or None.
        lon: Degrees east, or None.
        coarse: True if the place is shown less exactly than it is known.
        camera: Make and model, or None.
        lens: Lens model, or None.
        views: Its regions with a vector.
        label: What it is taken for, or None.
        verified: Verified labels in force.
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
    verified: tuple[VerifiedLabel, ...]


@dataclass(frozen=True, slots=True)
class Taxon:
    """A name that photos can be labelled with, and how many are verified to show it."""

    name: str
    scientific_name: str | None
    rank: str
    family: str | None
    order: str | None
    photos: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of labels that were to be recorded; `run_id` takes them back."""

    run_id: int | None
    recorded: int
    replaced: int
    unchanged: int
    new_taxa: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A photo that is worth verifying next, and why."""

    photo: CatalogPhoto
    labels: tuple[LabelEstimate, ...]
    unknown: float | None
    reason: str
    evidence: LabelEvidence | None = None
