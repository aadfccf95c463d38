"""What the service tells of photos, labels, copies, sightings, clusters and jobs: frozen, as it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

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
    "RecordedLabel",
    "ReviewItem",
    "StoredSighting",
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
    new_taxa: tuple[str, ...] = ()


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
    """A file of a group of copies.

    Attributes:
        photo_id: Its photo.
        path: Where it is.
        role: `keep`; `copy`, which may be moved; `linked` for several paths of one file; or `reference`.
        why: Of the kept file, why it is kept; of another one, how it differs.
        similarity: Cosine of its embedding and the kept file's, -1..1.
        width: Pixels, upright.
        height: Pixels, upright.
        bytes: Size of the file.
        format: Format of the file.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        verified: What the photo was verified to show, or None.
        links: Other paths of the same file.
    """

    photo_id: int
    path: str
    role: str
    why: str
    similarity: float
    width: int
    height: int
    bytes: int
    format: str
    captured_at: str | None
    verified: str | None
    links: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CopyGroup:
    """Files that show one picture, the kept one first; `exact` if they are the same byte for byte."""

    id: int
    exact: bool
    movable_bytes: int
    files: tuple[CopyFile, ...]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """The copies that were found last.

    Attributes:
        state: `none` before the first search, `running`, or `ready`.
        job: Number of the job that looks for copies or moves them, or None.
        found_at: When they were found, or None.
        photos: How many photos were looked at.
        groups: The groups.
        movable: How many files may be moved.
        movable_bytes: What moving them would free.
        warnings: For a person.
    """

    state: str
    job: int | None
    found_at: str | None
    photos: int
    groups: tuple[CopyGroup, ...]
    movable: int
    movable_bytes: int
    warnings: tuple[str, ...] = ()


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
        id: Its number; jobs are forgotten when the service stops.
        kind: `index`, `label`, `duplicates`, `sightings`, `cluster`, `map` or `apply`.
        state: `queued`, `running`, `done`, `failed` or `cancelled`.
        done: How much of the present step is done.
        total: Of how much, or None where that is not known.
        message: The present step.
        created_at: UTC, ISO 8601.
        started_at: UTC, ISO 8601, or None.
        finished_at: UTC, ISO 8601, or None.
        result: What came out, or None.
        error: Why it failed (a problem, RFC 9457), or None.
    """

    id: int
    kind: str
    state: str
    done: int
    total: int | None
    message: str
    created_at: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    result: Mapping[str, Any] | None = field(default=None, repr=False)
    error: Mapping[str, Any] | None = None

    @property
    def is_finished(self) -> bool:
        """True if nothing more happens."""
        return self.state in ("done", "failed", "cancelled")
