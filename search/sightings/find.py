"""Sightings: bursts, events, and the birds that were seen, once each.

Copies are counted once, a burst is one look, an event is frames of one camera with little time between them, and a
sighting is what was seen of one kind of bird at one place in one go, by whatever cameras. How photos are joined,
`birdsearch.search.sightings.events` and `birdsearch.search.sightings.parts` say; every sighting carries the
reasons.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.deployments import read_deployments
from birdsearch.indexer.catalog.filtered_photos import allowed_views, photos_of
from birdsearch.indexer.catalog.filters import Where
from birdsearch.indexer.catalog.frames import Frames, cosines_from, read_frames
from birdsearch.indexer.catalog.records import ModelRecord
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.taxonomy import Taxonomy
from birdsearch.search.labels.estimator import LabelEstimator
from birdsearch.search.query.deployed import Assignment, assign
from birdsearch.search.query.location_privacy.coarsening import (
    SensitiveNames,
    SensitivePhotos,
    coarse_place,
    coarse_places,
)
from birdsearch.search.query.location_privacy.reach import REACH_S
from birdsearch.search.sightings.build import BuiltParts, Taxa, build_parts, read_taxa, site_codes
from birdsearch.search.sightings.cameras import warn_of_apart
from birdsearch.search.sightings.events import EventRules, Grouping, events_of
from birdsearch.search.sightings.labels import FusedLabel, bird_sizes, fused_labels, representatives
from birdsearch.search.sightings.parts import Joined, SightingRules, merge_parts
from birdsearch.search.sightings.spans import span_of
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = [
    "EventReason",
    "FoundSightings",
    "Sighting",
    "find_sightings",
    "ids_of_groups",
    "mean_place",
    "number_sightings",
    "shown_place",
    "span_of",
    "with_deployments",
    "with_shown_places",
]


@dataclass(frozen=True, slots=True)
class EventReason:
    """Why an event, or a part of one, is in a sighting.

    Attributes:
        event: Name of the event, its smallest photo id.
        frames: Exposures of it in this sighting.
        largest_gap_s: Longest time between two neighbours of the event.
        least_cosine: Lowest cosine of two neighbours, or None for one exposure.
        split: `one` if the whole event is here; `taxon` or `look` if it shows another bird besides, and why.
        joined_to: The event that it was joined to, None for the first.
        by: `taxon` or `look`, by what it was joined, or None.
        place: `site`, `camera` or `position`, what says that the place is the same, or None.
        gap_s: Seconds between the two events, or None.
        cosine: How alike they look, -1..1, or None.
    """

    event: int
    frames: int
    largest_gap_s: float
    least_cosine: float | None
    split: str
    joined_to: int | None = None
    by: str | None = None
    place: str | None = None
    gap_s: float | None = None
    cosine: float | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """Birds of one kind at one place in one go.

    Attributes:
        number: From 1, in order of time; sightings without a time come last.
        name: Label at the finest rank that is as sure as asked, or what was verified; None without labels.
        rank: `species`, `genus`, `family`, `order` or `bird`, or None.
        probability: That `name` is right, 0..1; None where it was verified, or without labels.
        species: The likeliest label, or None.
        unknown: Probability that the bird is of no known label, 0..1, or None.
        verified: True if somebody said so.
        started_at: First wall-clock time, ISO 8601, or None.
        ended_at: Last, on the clock of the first.
        site: Of its deployment, or None; None too where the exact place is hidden.
        latitude: Degrees north, or None.
        longitude: Degrees east, or None.
        is_coarse: True if the place was coarsened to 0.1 degree, as the species is sensitive.
        frames: Exposures; copies count once.
        photos: Photos, copies included.
        bursts: Bursts of two exposures or more.
        events: Events.
        cameras: Cameras.
        photo_id: The photo that shows it best.
        why: One reason an event, in order of time.
    """

    number: int
    name: str | None
    rank: str | None
    probability: float | None
    species: str | None
    unknown: float | None
    verified: bool
    started_at: str | None
    ended_at: str | None
    site: str | None
    latitude: float | None
    longitude: float | None
    is_coarse: bool
    frames: int
    photos: int
    bursts: int
    events: int
    cameras: int
    photo_id: int
    why: tuple[EventReason, ...]

    def to_dict(self) -> dict[str, object]:
        """Return the sighting as JSON types."""
        return asdict(self) | {"number": f"s{self.number}", "why": [asdict(one) for one in self.why]}


@dataclass(frozen=True, slots=True, eq=False)
class FoundSightings:
    """The sightings found in a catalog.

    Attributes:
        frames: N photos.
        grouping: Their exposures, bursts and events.
        assignment: Their deployments.
        sightings: (N,) int64, the smallest row of each frame's sighting.
        numbers: (N,) int64, the number of each frame's sighting.
        sites: (N,) int64, positions in `site_names`, -1 where unknown.
        site_names: The deployments' sites.
        listed: The sightings by number.
        hidden: (N,) bool, the frames whose places and sites are not told.
    """

    frames: Frames
    grouping: Grouping
    assignment: Assignment
    sightings: NDArray[np.int64]
    numbers: NDArray[np.int64]
    sites: NDArray[np.int64]
    site_names: tuple[str, ...]
    listed: tuple[Sighting, ...]
    hidden: NDArray[np.bool_]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps photos from having a deployment, and which folders were taken for two cameras."""
        return self.assignment.conflicts + warn_of_apart(self.frames, self.grouping.apart)


_EVENT_RULES, _RULES = EventRules(), SightingRules()


def find_sightings(
    store: CatalogStore,
    record: ModelRecord,
    where: Where | None = None,
    event_rules: EventRules = _EVENT_RULES,
    rules: SightingRules = _RULES,
    *,
    confidence: float = DEFAULT_CONFIDENCE,
    exact_places: bool = False,
    estimator: LabelEstimator | None = None,
) -> FoundSightings:
    """Find the bursts, events and sightings of a catalog; nothing is written.

    Args:
        store: An open catalog; reading is enough.
        record: Its model.
        where: Conditions on the photos; the others are as if they were not there.
        event_rules: When photos are of one burst or event.
        rules: When events are of one sighting.
        confidence: How sure a label has to be before it is rolled up, 0..1.
        exact_places: Give places of sensitive species as they are.
        estimator: The catalog's label estimate; without one, only verified sightings are named.

    Returns:
        What was found; the same whatever the order in which the photos were indexed, but for ids.

    Raises:
        InvalidInputError: The confidence is outside its limits.
    """
    if not 0 <= confidence <= 1:
        raise InvalidInputError(f"confidence is {confidence}; it has to be 0 to 1")
    view_ids = allowed_views(store, record.id, Where() if where is None else where)
    frames = read_frames(store, photos_of(store, view_ids))
    assignment = assign(read_deployments(store), frames)
    frames = with_deployments(frames, assignment)
    grouping = events_of(frames, cosines_from(store, record.id, frames), event_rules, assignment.codes)
    sites, site_names = site_codes(assignment, frames, grouping)
    taxa = read_taxa(store, frames, grouping.exposures, rules.least_probability)
    hidden = np.zeros(len(frames), bool)
    if not exact_places:
        hidden = SensitivePhotos(store).are_hidden(frames.photo_ids)
    # Within reach everything of one place is hidden; what is joined from beyond would tell where that is.
    joined = frames if rules.gap_s <= REACH_S else with_shown_places(frames, hidden)
    built = build_parts(store, record.id, joined, grouping, taxa, sites, rules)
    part_labels, why = merge_parts(built.parts, rules)
    sightings = _smallest(part_labels[built.of_frame])
    rows = np.flatnonzero(grouping.leads)
    labels: dict[int, FusedLabel] = {}
    sure = np.full(len(frames), np.nan)
    if estimator is not None and len(estimator.space) and len(frames):
        labels, sure = fused_labels(
            store, estimator, frames, grouping.events, sightings, grouping.bursts, rows, confidence
        )
    best = representatives(sightings, rows, (frames.sharpness, bird_sizes(store, frames), sure))
    taxonomy = Taxonomy.load() if estimator is None else estimator.taxonomy
    names = SensitiveNames(() if exact_places else taxonomy)
    found = _Listing(
        frames, grouping, taxa, sites, site_names, built, part_labels, why, sightings, hidden, names
    )
    numbers, listed = found.list_all(labels, best)
    return FoundSightings(frames, grouping, assignment, sightings, numbers, sites, site_names, listed, hidden)


def with_shown_places(frames: Frames, hidden: NDArray[np.bool_]) -> Frames:
    """Return the frames with the places that are shown of them: those of hidden ones are coarse.

    Args:
        frames: N frames.
        hidden: (N,) bool.
    """
    return replace(
        frames,
        latitudes=np.where(hidden, coarse_places(frames.latitudes), frames.latitudes),
        longitudes=np.where(hidden, coarse_places(frames.longitudes), frames.longitudes),
    )


def with_deployments(frames: Frames, assignment: Assignment) -> Frames:
    """Return the frames with the position of their deployment where they have none themselves."""
    positions = [(one.latitude, one.longitude) for one in assignment.deployments]
    known = np.array([*positions, (None, None)], dtype=np.float64)[assignment.codes]
    lacks = np.isnan(frames.latitudes) | np.isnan(frames.longitudes)
    return replace(
        frames,
        latitudes=np.where(lacks, known[:, 0], frames.latitudes),
        longitudes=np.where(lacks, known[:, 1], frames.longitudes),
    )


def _smallest(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return for each row the smallest row of its group."""
    _, first, back = np.unique(labels, return_index=True, return_inverse=True)
    return np.asarray(first[back.reshape(-1)], dtype=np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class _Listing:
    frames: Frames
    grouping: Grouping
    taxa: Taxa
    sites: NDArray[np.int64]
    site_names: tuple[str, ...]
    built: BuiltParts
    part_labels: NDArray[np.int64]
    joined: dict[int, Joined]
    sightings: NDArray[np.int64]
    hidden: NDArray[np.bool_]
    sensitive: SensitiveNames

    def list_all(
        self, labels: dict[int, FusedLabel], best: dict[int, int]
    ) -> tuple[NDArray[np.int64], tuple[Sighting, ...]]:
        """Return the number of each frame's sighting, and the sightings by number."""
        numbers = number_sightings(self.frames, self.sightings)
        order = np.argsort(numbers, kind="stable")
        starts = np.flatnonzero(np.diff(numbers[order], prepend=0))
        names = ids_of_groups(self.frames.photo_ids, self.grouping.events)
        members = np.split(order, starts[1:]) if len(order) else []
        return numbers, tuple(
            self._one(number, some, names, labels, best) for number, some in enumerate(members, start=1)
        )

    def _one(
        self,
        number: int,
        some: NDArray[np.int64],
        names: NDArray[np.int64],
        labels: dict[int, FusedLabel],
        best: dict[int, int],
    ) -> Sighting:
        frames, grouping = self.frames, self.grouping
        sighting = int(self.sightings[some[0]])
        leads = some[grouping.leads[some]]
        started_at, ended_at = span_of(frames, leads)
        fused, verified = labels.get(sighting), self._verified(leads)
        name = verified if verified is not None else (None if fused is None else fused.name)
        species = verified if verified is not None else (None if fused is None else fused.species)
        is_hidden = self.sensitive.any_of(name, species) or bool(self.hidden[some].any())
        place = shown_place(frames, some) if is_hidden else self._place(some)
        _, sizes = np.unique(grouping.bursts[leads], return_counts=True)
        cameras = grouping.cameras[leads]
        # Frames of no deployment may have been joined to those of one.
        site = int(self.sites[some].max())
        return Sighting(
            number=number,
            name=name,
            rank="species" if verified is not None else (None if fused is None else fused.rank),
            probability=None if verified is not None or fused is None else fused.probability,
            species=species,
            unknown=None if verified is not None or fused is None else fused.unknown,
            verified=verified is not None,
            started_at=started_at,
            ended_at=ended_at,
            site=self.site_names[site] if site >= 0 and not is_hidden else None,
            latitude=None if place is None else place[0],
            longitude=None if place is None else place[1],
            is_coarse=is_hidden and place is not None,
            frames=len(leads),
            photos=len(some),
            bursts=int((sizes > 1).sum()),
            events=len(np.unique(grouping.events[leads])),
            cameras=max(1, len(np.unique(cameras[cameras >= 0]))),
            photo_id=int(frames.photo_ids[best[sighting]]),
            why=self._why(leads, names),
        )

    def _verified(self, leads: NDArray[np.int64]) -> str | None:
        """Return the commonest verified taxon, the first by name of equally common ones."""
        codes = self.taxa.codes[leads[self.taxa.verified[leads]]]
        return self.taxa.names[int(np.bincount(codes).argmax())] if len(codes) else None

    def _place(self, some: NDArray[np.int64]) -> tuple[float, float] | None:
        parts = np.unique(self.built.of_frame[some])
        latitudes, longitudes = self.built.parts.latitudes[parts], self.built.parts.longitudes[parts]
        return mean_place(latitudes, longitudes)

    def _why(self, leads: NDArray[np.int64], names: NDArray[np.int64]) -> tuple[EventReason, ...]:
        built = self.built
        parts, counts = np.unique(built.of_frame[leads], return_counts=True)
        found = []
        for at in np.lexsort((parts, built.parts.starts[parts])).tolist():
            part = int(parts[at])
            least = float(built.least_cosine[part])
            joined = self.joined.get(part)
            event = int(names[built.parts.events[part]])
            facts = (event, int(counts[at]), float(built.largest_gap_s[part]))
            shown = None if math.isnan(least) else round(least, 4)
            if joined is None:
                found.append(EventReason(*facts, shown, built.split[part]))
                continue
            to = int(names[built.parts.events[joined.part]])
            cosine = None if joined.cosine is None else round(joined.cosine, 4)
            found.append(
                EventReason(
                    *facts, shown, built.split[part], to, joined.by, joined.place, joined.gap_s, cosine
                )
            )
        return tuple(found)


def mean_place(latitudes: NDArray[np.float64], longitudes: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the middle of places near each other, across the antimeridian too; None if none is known.

    Args:
        latitudes: (N,) degrees north, NaN where unknown.
        longitudes: (N,) degrees east.
    """
    known = ~np.isnan(latitudes) & ~np.isnan(longitudes)
    if not known.any():
        return None
    base = longitudes[known][0]
    turned = (longitudes[known] - base + 180.0) % 360.0 - 180.0
    longitude = (float(turned.mean()) + base + 180.0) % 360.0 - 180.0
    return round(float(latitudes[known].mean()), 6), round(float(longitude), 6)


def shown_place(frames: Frames, some: NDArray[np.int64]) -> tuple[float | None, float | None] | None:
    """Return the place that is shown of some frames together, known from the cells of their places alone.

    Args:
        frames: All frames.
        some: (n,) int64, their rows.
    """
    middle = mean_place(coarse_places(frames.latitudes[some]), coarse_places(frames.longitudes[some]))
    return None if middle is None else coarse_place(*middle)


def ids_of_groups(photo_ids: NDArray[np.int64], groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the smallest photo id of each group, in the row that names it."""
    found = np.full(len(photo_ids), np.iinfo(np.int64).max)
    np.minimum.at(found, groups, photo_ids)
    return found


def number_sightings(frames: Frames, sightings: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of each frame's sighting: from 1 in order of first times, those without one last.

    Args:
        frames: N frames.
        sightings: (N,) int64, the smallest row of each frame's sighting.
    """
    first = np.full(len(frames), np.iinfo(np.int64).max)
    timed = frames.has_time
    np.minimum.at(first, sightings[timed], frames.stamps[timed])
    named = np.unique(sightings)
    rank = np.zeros(len(frames), np.int64)
    rank[named[np.lexsort((named, first[named]))]] = np.arange(1, len(named) + 1)
    return np.asarray(rank[sightings])
