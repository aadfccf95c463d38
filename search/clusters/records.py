"""Clusters as they are shown: frozen, and the same for JSON, OpenAPI and the client."""

from __future__ import annotations

from dataclasses import dataclass

from birdsearch.search.json_records import Record

__all__ = ["Cluster", "ClusterMember", "ClusterRun"]


@dataclass(frozen=True, slots=True)
class ClusterRun(Record):
    """A state of the clusters: a clustering, or what an edit made of one.

    Attributes:
        run: Its number.
        at: When it was made, UTC, ISO 8601.
        method: The clustering's method, or `name`, `merge`, `split` or `undo`.
        based_on: The run that was edited; None for a clustering.
        clusters: How many clusters it has.
        photos: How many photos it is of.
        unclustered: Photos in no cluster.
        current: True for the one in force.
    """

    run: int
    at: str
    method: str
    based_on: int | None
    clusters: int
    photos: int
    unclustered: int
    current: bool


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
    """A photo of a cluster.

    Attributes:
        photo_id: The photo.
        strength: How well it fits the cluster, 0..1.
        odd: True if it fits less than half as well as the middle one, or if most bear another label.
        label: What it was verified to be, else what it is taken for, or None.
        verified: True if somebody verified it.
        event: Smallest photo id of its event.
        captured_at: Local wall-clock time, ISO 8601 without zone, or None.
        thumb: Address of its thumbnail, below that of the service.
    """

    photo_id: int
    strength: float
    odd: bool
    label: str | None
    verified: bool
    event: int
    captured_at: str | None
    thumb: str
