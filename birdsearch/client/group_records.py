"""What the service tells of copies, sightings, clusters and jobs: frozen, as it is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from birdsearch.search.json_records import Record

__all__ = [
    "Cluster",
    "ClusterMember",
    "ClusterRun",
    "CopyFile",
    "CopyGroup",
    "Duplicates",
    "Job",
    "StoredSighting",
]


@dataclass(frozen=True, slots=True)
class CopyFile(Record):
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
class CopyGroup(Record):
    """Files that show one picture, the kept one first; `exact` if they are the same byte for byte."""

    id: int
    exact: bool
    movable_bytes: int
    files: tuple[CopyFile, ...]


@dataclass(frozen=True, slots=True)
class Duplicates(Record):
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
class StoredSighting(Record):
    """A sighting: birds of one kind at one place in one go.

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
        photo_ids: The photo that shows it best, then others in order of time: up to 12, all of them from
            `Client.sighting`.
        site: Where, or None.
        lat: Degrees north, or None.
        lon: Degrees east, or None.
        coarse: True if the place is shown less exactly than it is known.
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


@dataclass(frozen=True, slots=True)
class ClusterRun(Record):
    """A clustering of the catalog, or what an edit made of one; `current` is in force."""

    run: int
    at: str
    method: str
    clusters: int
    photos: int
    unclustered: int
    current: bool
    based_on: int | None


@dataclass(frozen=True, slots=True)
class Cluster(Record):
    """A group of photos that look alike.

    Attributes:
        id: Its id, which stays when clusters are found again.
        name: What somebody called it, or None.
        photos: How many.
        events: Of how many events.
        label: The commonest verified label, else the commonest estimate, or None.
        label_share: Part of the labelled photos that bear it, 0..1, or None.
        verified: Photos with a verified label.
        purity: Part of the photos verified one by one that bear the commonest of their labels, 0..1, or None.
        sites: From how many sites.
        one_site: The site that nearly all of it comes from, if that is no chance, or None.
        first: Time of the first photo, local, or None.
        last: Time of the last photo, local, or None.
        tightness: Mean strength of the photos, 0..1.
        thumbs: Ids of photos that show what it is, the most typical first.
    """

    id: int
    name: str | None
    photos: int
    events: int
    label: str | None
    label_share: float | None
    verified: int
    purity: float | None
    sites: int
    one_site: str | None
    first: str | None
    last: str | None
    tightness: float
    thumbs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ClusterMember(Record):
    """A photo of a cluster: how firmly it belongs, 0..1, and whether it looks out of place."""

    photo_id: int
    strength: float
    odd: bool
    label: str | None
    verified: bool
    captured_at: str | None


@dataclass(frozen=True, slots=True)
class Job(Record):
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
    created_at: str | None
    started_at: str | None
    finished_at: str | None
    result: Mapping[str, Any] | None = field(repr=False)
    error: Mapping[str, Any] | None

    @property
    def is_finished(self) -> bool:
        """True if nothing more happens."""
        return self.state in ("done", "failed", "cancelled")
