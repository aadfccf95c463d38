"""What the service tells of photos, labels, copies, sightings, clusters and jobs: frozen, as it is sent."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, get_args, get_origin

from birdsearch.errors import ServiceError
from birdsearch.search.results import LabelEstimate, LabelEvidence

__all__ = [
    "CatalogInfo",
    "CatalogPhoto",
    "Cluster",
    "ClusterMember",
    "ClusterRun",
    "CopyFile",
    "CopyGroup",
    "Duplicates",
    "Job",
    "NetworkInfo",
    "PhotoFile",
    "PhotoLabel",
    "PhotoView",
    "Recorded",
    "ReviewItem",
    "StoredSighting",
    "Taxon",
    "VerifiedLabel",
    "decode",
]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class NetworkInfo:
    """The network that the catalog's photos were embedded with."""

    name: str
    classes: int
    embedding_size: int


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
        first: Earliest capture time, or None.
        last: Latest capture time, or None.
    """

    name: str
    photos: int
    verified_photos: int
    files_missing: int
    model: NetworkInfo | None
    version: str
    features: Mapping[str, Any]
    cameras: tuple[str, ...] = ()
    first: str | None = None
    last: str | None = None


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
        species: Likeliest species, whatever the rank of `name`, or None.
        species_probability: Its probability, 0..1, or None.
        p_model: What the network alone says, 0..1, or None.
        p_knn: What the verified neighbours alone say, 0..1, or None.
        unknown: That the bird is of no known label, 0..1, or None.
    """

    name: str
    scientific_name: str | None
    rank: str
    probability: float
    species: str | None = None
    species_probability: float | None = None
    p_model: float | None = None
    p_knn: float | None = None
    unknown: float | None = None


@dataclass(frozen=True, slots=True)
class VerifiedLabel:
    """What somebody verified a photo to show, or not to show."""

    taxon: str
    verdict: str
    scientific_name: str | None = None
    who: str | None = None
    at: str | None = None
    source: str | None = None


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
    family: str | None = None
    order: str | None = None
    photos: int = 0


@dataclass(frozen=True, slots=True)
class Recorded:
    """What became of labels that were to be recorded; `run_id` takes them back."""

    run_id: int | None
    recorded: int
    replaced: int
    unchanged: int


@dataclass(frozen=True, slots=True)
class ReviewItem:
    """A photo that is worth verifying next, and why."""

    photo: CatalogPhoto
    labels: tuple[LabelEstimate, ...]
    unknown: float | None
    reason: str
    evidence: LabelEvidence | None = None


@dataclass(frozen=True, slots=True)
class CopyFile:
    """A photo of a group of copies: its role (`keep`, `copy`, ...) and why."""

    photo_id: int
    path: str
    role: str
    why: str | None = None
    similarity: float | None = None
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    format: str | None = None
    captured_at: str | None = None


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Photos that are the same picture; `exact` if to the byte."""

    id: int
    exact: bool
    files: tuple[CopyFile, ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The copies that were found last.

    Attributes:
        state: `none` before the first search, `running`, or `ready`.
        job: Id of the search that runs, or None.
        found_at: When they were found, or None.
        groups: The groups.
        movable_bytes: What moving the copies away would free.
    """

    state: str
    job: str | None
    found_at: str | None
    groups: tuple[CopyGroup, ...]
    movable_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class StoredSighting:
    """A sighting: photos of one visit of one kind of bird to one place."""

    id: int
    taxon: str | None
    scientific_name: str | None
    first: str | None
    last: str | None
    photos: int
    photo_ids: tuple[int, ...]
    site: str | None = None
    lat: float | None = None
    lon: float | None = None
    coarse: bool = False
    probability: float | None = None


@dataclass(frozen=True, slots=True)
class ClusterRun:
    """A clustering of the catalog, or what an edit made of one."""

    run: int
    at: str
    method: str
    clusters: int
    photos: int
    unclustered: int
    current: bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """A group of photos that look alike; `thumbs` are the ids of typical ones."""

    id: int
    name: str | None
    photos: int
    events: int | None = None
    label: str | None = None
    label_share: float | None = None
    sites: int | None = None
    first: str | None = None
    last: str | None = None
    thumbs: tuple[int, ...] = ()
    tightness: float | None = None


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """A photo of a cluster: how firmly it belongs, 0..1, and whether it looks out of place."""

    photo_id: int
    strength: float | None
    odd: bool
    label: str | None = None
    captured_at: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Work that the service does in the background.

    Attributes:
        id: Its id.
        kind: `index`, `label`, `duplicates`, `sightings`, `cluster`, `map` or `apply`.
        state: `queued`, `running`, `done`, `failed` or `cancelled`.
        done: Steps done.
        total: Steps there are, or None while that is not known.
        message: What it does now.
        started_at: UTC, ISO 8601, or None.
        finished_at: UTC, ISO 8601, or None.
        result: What came out, or None.
        error: Why it failed (a problem, RFC 9457), or None.
    """

    id: str
    kind: str
    state: str
    done: int = 0
    total: int | None = None
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    result: Mapping[str, Any] | None = field(default=None, repr=False)
    error: Mapping[str, Any] | None = None

    @property
    def is_finished(self) -> bool:
        """True if nothing more happens."""
        return self.state in ("done", "failed", "cancelled")


def decode(kind: type[T], value: Any) -> T:
    """Make a frozen dataclass of what JSON holds; keys that it does not know are passed over.

    Args:
        kind: The dataclass, or a type of one of its fields.
        value: JSON types.

    Returns:
        The value as its type says.

    Raises:
        ServiceError: A value is missing or of another type: the service is of another version.
    """
    return typing.cast("T", _decoded(kind, value, getattr(kind, "__name__", str(kind))))


def _decoded(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _decoded(_without_none(kind), value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_decoded(get_args(kind)[0], item, where) for item in value)
    if isinstance(value, Mapping) and hasattr(kind, "from_dict"):
        try:
            return kind.from_dict(value)
        except (KeyError, TypeError) as error:
            raise ServiceError(f"the service sent a {where} of another version: {error!r}") from None
    if isinstance(value, Mapping) and isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        given = {
            each.name: _decoded(hints[each.name], value[each.name], f"{where}.{each.name}")
            for each in dataclasses.fields(kind)
            if each.name in value
        }
        try:
            return kind(**given)
        except TypeError as error:
            raise ServiceError(f"the service sent a {where} of another version: {error}") from None
    wanted = (int, float) if kind is float else Mapping if origin is not None else kind
    if kind is Any or isinstance(value, wanted):
        return value
    raise ServiceError(f"the service sent a {where} of another version: {value!r}")


def _without_none(kind: Any) -> Any:
    return next(each for each in get_args(kind) if each is not types.NoneType)
