"""The sightings that a run stored, with the labels that photos have now.

What was joined is stored; what it shows is not, since that follows from labels, which go on changing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.deployments import read_deployments
from birdsearch.indexer.catalog.events import joined_photos
from birdsearch.indexer.catalog.frames import Frames, cosines_from, read_frames
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.taxa import RANKS, Clade
from birdsearch.model.taxonomy import Taxonomy, name_key
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.query.deployed import assign
from birdsearch.search.query.location_privacy.coarsening import SensitiveNames, SensitivePhotos
from birdsearch.search.sightings.build import Taxa, read_taxa, site_codes
from birdsearch.search.sightings.events import Grouping, events_of
from birdsearch.search.sightings.find import (
    mean_place,
    number_sightings,
    shown_place,
    with_deployments,
)
from birdsearch.search.sightings.labels import FusedLabel, bird_sizes, fused_labels, representatives
from birdsearch.search.sightings.parts import SightingRules
from birdsearch.search.sightings.spans import span_of
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = ["SeenPhotos", "StoredSighting", "is_of", "list_sightings", "read_seen"]


@dataclass(frozen=True, slots=True)
class StoredSighting:
    """Birds of one kind at one place in one go.

    Attributes:
        number: From 1, in order of time, as `birdsearch sightings` numbered it; those without a time come last.
        name: What was verified, else the label at the finest rank that is as sure as asked; None without labels.
        rank: `species`, `genus`, `family`, `order` or `bird`, or None.
        probability: That `name` is right, 0..1; None where it was verified, or without labels.
        species: The likeliest label, or None.
        scientific_name: That of `name`, where it is a species that is known.
        unknown: Probability that the bird is of no known label, 0..1, or None.
        verified: True if somebody said so.
        started_at: First wall-clock time, ISO 8601, or None.
        ended_at: Last, on the clock of the first.
        site: Of its deployment, or None; None too where the exact place is hidden.
        latitude: Degrees north, or None.
        longitude: Degrees east, or None.
        is_coarse: True if the place is told coarsely, as the species is sensitive.
        frames: Exposures; copies count once.
        events: Events, or parts of them.
        cameras: Cameras.
        photo_ids: Its photos: the one that shows it best, then in order of time, copies last.
    """

    number: int
    name: str | None
    rank: str | None
    probability: float | None
    species: str | None
    scientific_name: str | None
    unknown: float | None
    verified: bool
    started_at: str | None
    ended_at: str | None
    site: str | None
    latitude: float | None
    longitude: float | None
    is_coarse: bool
    frames: int
    events: int
    cameras: int
    photo_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class SeenPhotos:
    """The photos that a run saw, and what it joined. Labels have no part in it.

    Attributes:
        run_id: The run.
        frames: N photos.
        grouping: Their cameras and exposures as they are now, their bursts and events as the run stored them.
        sightings: (N,) int64, the smallest row of each photo's sighting.
        numbers: (N,) int64, its number.
        sites: (N,) int64, positions in `site_names`, -1 where unknown.
        site_names: The sites of the deployments.
    """

    run_id: int
    frames: Frames
    grouping: Grouping
    sightings: NDArray[np.int64]
    numbers: NDArray[np.int64]
    sites: NDArray[np.int64]
    site_names: tuple[str, ...]


def read_seen(store: CatalogStore, record: ModelRecord, run_id: int) -> SeenPhotos:
    """Read what a run stored.

    Args:
        store: An open catalog.
        record: Its model.
        run_id: A `sightings` run.
    """
    joined = joined_photos(store, run_id)
    frames = read_frames(store, joined.photo_ids)
    # Frames are in the order of their content, without photos that were lost since.
    rows = np.searchsorted(joined.photo_ids, frames.photo_ids)
    assignment = assign(read_deployments(store), frames)
    frames = with_deployments(frames, assignment)
    now = events_of(frames, cosines_from(store, record.id, frames), deployments=assignment.codes)
    bursts, events, sightings = (
        _by_row(groups[rows]) for groups in (joined.bursts, joined.events, joined.sightings)
    )
    grouping = Grouping(now.cameras, now.exposures, bursts, events, now.leads, now.apart)
    sites, site_names = site_codes(assignment, frames, grouping)
    numbers = number_sightings(frames, sightings)
    return SeenPhotos(run_id, frames, grouping, sightings, numbers, sites, site_names)


def _by_row(names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the smallest row of its group."""
    _, first, back = np.unique(names, return_index=True, return_inverse=True)
    return np.asarray(first[back.reshape(-1)], dtype=np.int64)


def list_sightings(
    store: CatalogStore,
    seen: SeenPhotos,
    estimator: LabelEstimator,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    sensitive: SensitivePhotos | None = None,
) -> tuple[StoredSighting, ...]:
    """Return the sightings with the labels that photos have now.

    Args:
        store: An open catalog.
        seen: What was stored of them.
        estimator: The catalog's label estimate.
        confidence: How sure a label has to be before it is rolled up, 0..1.
        sensitive: Tells the photos of sensitive species, whose places are told coarsely; None tells all exactly.

    Returns:
        The sightings by number.
    """
    frames, grouping = seen.frames, seen.grouping
    taxa = read_taxa(store, frames, grouping.exposures, SightingRules().least_probability)
    rows = np.flatnonzero(grouping.leads)
    # A sighting of a run from before its photos were copies of each other may have no exposure of its own.
    alone = np.setdiff1d(seen.sightings, seen.sightings[rows])
    rows = np.union1d(rows, alone)
    labels: dict[int, FusedLabel] = {}
    sure = np.full(len(frames), np.nan)
    if len(estimator.space) and len(frames):
        labels, sure = fused_labels(
            store, estimator, frames, grouping.events, seen.sightings, grouping.bursts, rows, confidence
        )
    best = representatives(seen.sightings, rows, (frames.sharpness, bird_sizes(store, frames), sure))
    hidden = frozenset[int]() if sensitive is None else sensitive.among(frames.photo_ids)
    names = SensitiveNames(()) if sensitive is None else SensitiveNames(estimator.taxonomy)
    teller = _Teller(
        seen, taxa, labels, best, np.isin(np.arange(len(frames)), rows), hidden, names, estimator
    )
    order = np.argsort(seen.numbers, kind="stable")
    starts = np.flatnonzero(np.diff(seen.numbers[order], prepend=0))
    members = np.split(order, starts[1:]) if len(order) else []
    return tuple(teller.tell(number, some) for number, some in enumerate(members, start=1))


@dataclass(frozen=True, slots=True, eq=False)
class _Teller:
    seen: SeenPhotos
    taxa: Taxa
    labels: dict[int, FusedLabel]
    best: dict[int, int]
    is_lead: NDArray[np.bool_]
    hidden: frozenset[int]
    sensitive: SensitiveNames
    estimator: LabelEstimator

    def tell(self, number: int, some: NDArray[np.int64]) -> StoredSighting:
        """Return one sighting, of the photos in some rows."""
        seen, frames, grouping = self.seen, self.seen.frames, self.seen.grouping
        sighting = int(seen.sightings[some[0]])
        leads = some[self.is_lead[some]]
        started_at, ended_at = span_of(frames, leads)
        fused, verified = self.labels.get(sighting), self._verified(leads)
        estimate = fused if verified is None else None
        name, rank, species = verified, "species" if verified is not None else None, verified
        if estimate is not None:
            name, rank, species = estimate.name, estimate.rank, estimate.species
        taxon = self.estimator.taxonomy.find(name) if name is not None and rank == "species" else None
        is_hidden = self.sensitive.any_of(name, species) or not self.hidden.isdisjoint(
            frames.photo_ids[some].tolist()
        )
        place = shown_place(frames, some) if is_hidden else self._place(leads)
        cameras = grouping.cameras[leads]
        site = int(seen.sites[some].max())
        shown = self.best[sighting]
        stamps = np.where(frames.has_time[some], frames.stamps[some], np.iinfo(np.int64).max)
        in_order = some[np.lexsort((some, stamps, ~self.is_lead[some], some != shown))]
        return StoredSighting(
            number=number,
            name=name,
            rank=rank,
            probability=None if estimate is None else estimate.probability,
            species=species,
            scientific_name=None if taxon is None else taxon.scientific_name or None,
            unknown=None if estimate is None else estimate.unknown,
            verified=verified is not None,
            started_at=started_at,
            ended_at=ended_at,
            site=seen.site_names[site] if site >= 0 and not is_hidden else None,
            latitude=None if place is None else place[0],
            longitude=None if place is None else place[1],
            is_coarse=is_hidden and place is not None,
            frames=len(leads),
            events=len(np.unique(grouping.events[leads])),
            cameras=max(1, len(np.unique(cameras[cameras >= 0]))),
            photo_ids=tuple(frames.photo_ids[in_order].tolist()),
        )

    def _place(self, leads: NDArray[np.int64]) -> tuple[float, float] | None:
        """Return the middle of the places of its events, however many exposures each has."""
        frames, events = self.seen.frames, self.seen.grouping.events[leads]
        places = [
            mean_place(frames.latitudes[some], frames.longitudes[some])
            for some in (leads[events == event] for event in np.unique(events))
        ]
        known = np.array([place for place in places if place is not None]).reshape(-1, 2)
        return mean_place(known[:, 0], known[:, 1])

    def _verified(self, leads: NDArray[np.int64]) -> str | None:
        codes = self.taxa.codes[leads[self.taxa.verified[leads]]]
        return self.taxa.names[int(np.bincount(codes).argmax())] if len(codes) else None


def is_of(sighting: StoredSighting, clade: Clade, taxonomy: Taxonomy) -> bool:
    """Return whether a sighting is of a species, genus, family or order, as far as its label says.

    Args:
        sighting: The sighting.
        clade: The species or group.
        taxonomy: The catalog's taxonomy.
    """
    if sighting.rank not in RANKS or RANKS.index(sighting.rank) > RANKS.index(clade.rank):
        return False
    if sighting.rank == clade.rank and name_key(sighting.name or "") == name_key(clade.name):
        return True
    return taxonomy.find(sighting.species or "") in clade.taxa
