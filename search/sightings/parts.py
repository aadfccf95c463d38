"""Parts of events: events are split where they show two birds, and joined to sightings where they go on.

Cautious both ways. An event is one sighting unless two taxa are told in it, or two looks that have nothing in
common and more than one exposure each. Two events are of one sighting if they are near in time and place and of
one taxon, or, where a taxon is not known, of one look. Half an hour between events of one species at one camera is
what surveys take for independent (T. G. O'Brien, M. F. Kinnaird, H. T. Wibisono, "Crouching tigers, hidden prey",
Animal Conservation 6 (2003) 131-139).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.filtered_photos import great_circle_km

__all__ = ["Joined", "Parts", "SightingRules", "average_linkage", "merge_parts", "split_event"]

_KM_A_DEGREE = 111.195
# A longer event is cut into so many pieces for the comparison of its looks: the time grows with the square.
_MOST_PIECES = 512


@dataclass(frozen=True, slots=True)
class SightingRules:
    """Rules by which events are of one sighting.

    Attributes:
        gap_s: Events at most this many seconds apart may be.
        same_look: Cosine of the mean vectors of two events from which they show one look, -1..1.
        two_looks: Mean cosine below which two parts of an event show two looks, -1..1.
        least_probability: From which a predicted species counts as told, 0..1.
        near_km: Two cameras at most so far apart see the same place, where no deployment says so.
        walk_km: Events of one camera farther apart than this are of two places.

    NOTE: 99.9 percent of the pairs of real photos of two among 50 species have a cosine below 0.57, and pairs of
    two events of one invented bird have one above 0.69 in 98 percent; unrelated real photos have 0.03 in the
    median. Both thresholds lie between what should be told apart, and were not tuned further.
    """

    gap_s: float = 1800.0
    same_look: float = 0.65
    two_looks: float = 0.3
    least_probability: float = 0.9
    near_km: float = 0.05
    walk_km: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.gap_s <= 3.2e9:
            raise InvalidInputError(f"the sighting gap is {self.gap_s}; it has to be 0 to 3.2e9 seconds")
        if not -1.0 <= self.two_looks <= self.same_look <= 1.0:
            raise InvalidInputError(
                f"two_looks is {self.two_looks} and same_look {self.same_look}; they have to be within -1 to 1, "
                "same_look the higher"
            )
        if not 0.0 <= self.least_probability <= 1.0:
            raise InvalidInputError(f"least_probability is {self.least_probability}; it has to be 0 to 1")
        if not 0.0 < self.near_km <= self.walk_km < math.inf:
            raise InvalidInputError(
                f"near_km is {self.near_km} and walk_km {self.walk_km}; they have to be above 0, walk_km not "
                "the lesser"
            )


def average_linkage(similarities: NDArray[np.float64], least: float) -> NDArray[np.int64]:
    """Cluster by average linkage (UPGMA): the two that are most alike are joined while they are alike enough.

    Source: R. R. Sokal, C. D. Michener, University of Kansas Science Bulletin 38 (1958) 1409-1438.
    NOTE: most events have a few looks; of 5 the linkage of SciPy takes 10 times as long, and is faster from 60 on.

    Args:
        similarities: (n, n) float64, symmetric; higher is more alike.
        least: Mean similarity of two clusters from which they are joined.

    Returns:
        (n,) int64, for each the smallest row of its cluster. Of equally alike pairs the first is joined first.
    """
    count = len(similarities)
    labels = np.arange(count, dtype=np.int64)
    table = np.array(similarities, dtype=np.float64)
    np.fill_diagonal(table, -np.inf)
    sizes = np.ones(count)
    for _ in range(count - 1):
        a, b = divmod(int(table.argmax()), count)
        if not table[a, b] >= least:
            break
        a, b = min(a, b), max(a, b)
        merged = (sizes[a] * table[a] + sizes[b] * table[b]) / (sizes[a] + sizes[b])
        table[a], table[:, a] = merged, merged
        table[b], table[:, b] = -np.inf, -np.inf
        table[a, a] = -np.inf
        sizes[a] += sizes[b]
        labels[labels == b] = a
    return labels


def split_event(
    unit: NDArray[np.float32],
    taxa: NDArray[np.int64],
    verified: NDArray[np.bool_],
    rules: SightingRules,
) -> tuple[NDArray[np.int64], str]:
    """Return the parts of one event that show different birds.

    Args:
        unit: (n, C) float32, unit-norm vectors of its exposures in order of time; zeros where there is none.
        taxa: (n,) int64 codes, -1 where the taxon is not known.
        verified: (n,) bool, whether somebody looked; a prediction alone tells a taxon only with a second exposure.
        rules: What counts as two looks.

    Returns:
        (n,) int64, for each exposure the first of its part; and why: `one`, `taxon` or `look`.
    """
    count = len(taxa)
    labels = np.zeros(count, np.int64)
    told, exposures = np.unique(taxa[taxa >= 0], return_counts=True)
    seen = np.unique(taxa[(taxa >= 0) & verified])
    clear = told[(exposures > 1) | np.isin(told, seen)]
    if len(clear) > 1:
        # By their first exposure, not by code, so that the codes do not matter.
        first = np.array([np.flatnonzero(taxa == taxon)[0] for taxon in clear])
        which = np.full(count, -1)
        for number, taxon in enumerate(clear[np.argsort(first)]):
            which[taxa == taxon] = number
        return _named(_with_nearest(unit, which)), "taxon"
    if count < 4:
        return labels, "one"
    parts = _looks(unit, rules.two_looks)
    sizes = np.bincount(parts)
    large = np.flatnonzero(sizes > 1)
    large = large[[_has_vector(unit[parts == part]) for part in large]]
    if len(large) < 2 or _share_taxon(parts, large, taxa):
        return labels, "one"
    which = np.full(count, -1)
    for number, part in enumerate(large):
        which[parts == part] = number
    return _named(_with_nearest(unit, which)), "look"


def _has_vector(unit: NDArray[np.float32]) -> bool:
    return bool(unit.any())


def _share_taxon(parts: NDArray[np.int64], large: NDArray[np.int64], taxa: NDArray[np.int64]) -> bool:
    """Return whether two looks have a taxon in common: then they are two looks of one bird, as from two sides."""
    told = [np.unique(taxa[(parts == part) & (taxa >= 0)]) for part in large]
    every = np.concatenate(told)
    return len(np.unique(every)) < len(every)


def _looks(unit: NDArray[np.float32], least: float) -> NDArray[np.int64]:
    """Cluster exposures; an exposure without a vector is one of its own."""
    count = len(unit)
    piece = np.arange(count) * min(count, _MOST_PIECES) // count
    sums = np.zeros((int(piece[-1]) + 1, unit.shape[1]))
    np.add.at(sums, piece, unit.astype(np.float64))
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    means = np.divide(sums, lengths, out=np.zeros_like(sums), where=lengths > 0)
    similarities = np.where((lengths > 0) & (lengths.T > 0), means @ means.T, -np.inf)
    return average_linkage(similarities, least)[piece]


def _with_nearest(unit: NDArray[np.float32], which: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give each exposure without a part (-1) the part with the nearest mean, else that of the one before it."""
    found = which.copy()
    sums = np.zeros((int(which.max()) + 1, unit.shape[1]))
    np.add.at(sums, which[which >= 0], unit[which >= 0].astype(np.float64))
    lengths = np.linalg.norm(sums, axis=1)
    known = np.flatnonzero(which >= 0)
    for row in np.flatnonzero(which < 0).tolist():
        if unit[row].any() and (lengths > 0).all():
            found[row] = int(np.argmax(sums @ unit[row].astype(np.float64) / lengths))
        else:
            before = known[known < row]
            found[row] = which[before[-1] if len(before) else known[0]]
    return found


def _named(which: NDArray[np.int64]) -> NDArray[np.int64]:
    _, first, back = np.unique(which, return_index=True, return_inverse=True)
    return np.asarray(first[back.reshape(-1)], dtype=np.int64)


# -- across events -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """P events, or parts of events, that are one sighting each so far.

    Attributes:
        events: (P,) int64, which event each is of.
        means: (P, C) float32, unit-norm mean vectors; zeros where there is none.
        taxa: (P,) int64 codes, -1 where the taxon is not known.
        starts: (P,) int64 microseconds of one clock for all; `NO_TIME` where unknown.
        ends: (P,) int64.
        cameras: (P,) int64 codes, -1 where unknown.
        sites: (P,) int64 codes of the deployments' sites, -1 where unknown.
        latitudes: (P,) float64, NaN where unknown.
        longitudes: (P,) float64.
    """

    events: NDArray[np.int64]
    means: NDArray[np.float32]
    taxa: NDArray[np.int64]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    cameras: NDArray[np.int64]
    sites: NDArray[np.int64]
    latitudes: NDArray[np.float64]
    longitudes: NDArray[np.float64]


NO_TIME = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Joined:
    """Why a part was joined to an earlier one.

    Attributes:
        part: The earlier part.
        by: `taxon` or `look`.
        place: `site` (of the deployments), `camera` or `position`.
        gap_s: Seconds between them, 0 if they overlap.
        cosine: Of their mean vectors, or None where one has none.
    """

    part: int
    by: str
    place: str
    gap_s: float
    cosine: float | None


def merge_parts(parts: Parts, rules: SightingRules) -> tuple[NDArray[np.int64], dict[int, Joined]]:
    """Join parts to sightings.

    In the order of their beginnings, each part is joined to the sighting of that earlier part within the gap and
    at the same place that it fits best: one of the same taxon before one of the same look, then the most alike.
    A sighting has one taxon and one part of an event.

    Args:
        parts: P parts, in an order that does not depend on ids.
        rules: When they fit.

    Returns:
        (P,) int64, for each part the first by time of its sighting; and why parts were joined.
    """
    count = len(parts.events)
    labels = np.arange(count, dtype=np.int64)
    why: dict[int, Joined] = {}
    taxon_of = {row: int(taxon) for row, taxon in enumerate(parts.taxa.tolist())}
    events_of = {row: {event} for row, event in enumerate(parts.events.tolist())}
    open_: defaultdict[tuple[object, ...], list[int]] = defaultdict(list)
    gap = round(rules.gap_s * 1e6)
    timed = np.flatnonzero(parts.starts != NO_TIME)
    for part in timed[np.lexsort((timed, parts.starts[timed]))].tolist():
        start = int(parts.starts[part])
        candidates: set[int] = set()
        keys = list(_keys(parts, part, rules.near_km))
        for key, is_own in keys:
            waiting = [one for one in open_[key] if start - int(parts.ends[one]) <= gap]
            candidates.update(waiting)
            if waiting or is_own:
                open_[key] = [*waiting, part] if is_own else waiting
            else:
                del open_[key]
        best: tuple[tuple[bool, float, int], Joined] | None = None
        allowed = [
            one for one in sorted(candidates) if int(parts.events[part]) not in events_of[int(labels[one])]
        ]
        for found in _fits(parts, part, allowed, [taxon_of[int(labels[one])] for one in allowed], rules):
            rank = (found.by == "taxon", -1.0 if found.cosine is None else found.cosine, -found.part)
            if best is None or rank > best[0]:
                best = rank, found
        if best is not None:
            sighting = int(labels[best[1].part])
            labels[part] = sighting
            why[part] = best[1]
            events_of[sighting].add(int(parts.events[part]))
            if taxon_of[sighting] < 0:
                taxon_of[sighting] = int(parts.taxa[part])
    return labels, why


def _keys(parts: Parts, part: int, near_km: float) -> Iterator[tuple[tuple[object, ...], bool]]:
    """Yield the keys of parts of the same place, and whether this part is to be found there itself."""
    site, camera = int(parts.sites[part]), int(parts.cameras[part])
    if site >= 0:
        yield ("site", site), True
    if camera >= 0:
        yield ("camera", camera), True
    latitude, longitude = float(parts.latitudes[part]), float(parts.longitudes[part])
    if math.isnan(latitude) or math.isnan(longitude):
        return
    height = near_km / _KM_A_DEGREE
    band = math.floor(latitude / height)
    for row in (band - 1, band, band + 1):
        # Cells of a row are as wide as `near_km` at its end nearer to the pole.
        farthest = max(abs(row), abs(row + 1)) * height
        cells = max(1, math.floor(360.0 / (height / max(math.cos(math.radians(min(farthest, 89.9))), 1e-3))))
        column = math.floor((longitude + 180.0) / 360.0 * cells)
        for step in sorted({(column + side) % cells for side in (-1, 0, 1)}):
            yield ("cell", row, step), row == band and step == column % cells


def _fits(
    parts: Parts, part: int, others: list[int], taxa: list[int], rules: SightingRules
) -> Iterator[Joined]:
    """Yield why a part fits earlier ones whose sightings have some taxa (-1: none yet)."""
    if not others:
        return
    own = int(parts.taxa[part])
    means = parts.means[others].astype(np.float64)
    # Summed row by row: a pair has one cosine whatever the others are.
    cosines = (means * parts.means[part].astype(np.float64)).sum(axis=1)
    has_both = np.logical_and(means.any(axis=1), parts.means[part].any())
    # NaN where one of the two tells no position.
    far = great_circle_km(
        float(parts.latitudes[part]),
        float(parts.longitudes[part]),
        parts.latitudes[others],
        parts.longitudes[others],
    )
    for at, (other, taxon) in enumerate(zip(others, taxa, strict=True)):
        place = _same_place(parts, part, other, float(far[at]), rules)
        if place is None or (own >= 0 and taxon >= 0 and own != taxon):
            continue
        cosine = float(cosines[at]) if has_both[at] else None
        gap_s = max(0, int(parts.starts[part]) - int(parts.ends[other])) / 1e6
        if own >= 0 and own == taxon:
            yield Joined(other, "taxon", place, gap_s, cosine)
        elif cosine is not None and cosine >= rules.same_look:
            yield Joined(other, "look", place, gap_s, cosine)


def _same_place(parts: Parts, part: int, other: int, far: float, rules: SightingRules) -> str | None:
    sites = int(parts.sites[part]), int(parts.sites[other])
    if min(sites) >= 0:
        return "site" if sites[0] == sites[1] else None
    if parts.cameras[part] == parts.cameras[other] >= 0:
        return None if far > rules.walk_km else "camera"
    return "position" if far <= rules.near_km else None
