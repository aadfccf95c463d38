"""Exposures, bursts and events: photos that one camera took in one go.

For counting, not for voting: `birdsearch.search.query.vote_groups` joins where it is in doubt, so that no photo
vouches for itself; here what is joined by mistake is an event that is not counted, and what is parted by mistake
one that is counted twice, so that neither is preferred.

- Camera: make, model and serial number; without one see `birdsearch.search.sightings.cameras`.
- Exposure: a photo and its copies; see `birdsearch.search.sightings.exposures`.
- Event: exposures of one camera, each less than `event_gap_s` after the one before. Times are compared as the
  camera's clock wrote them; two neighbours that say different offsets from UTC are of two events.
- Burst: exposures of one event, each less than `burst_gap_s` after the one before and not unlike it. In an event
  whose times have no fractions, two neighbours less than `burst_gap_s` + 1 s apart by the clock may be so near:
  they are if they are alike and, where they are not of the same second, their file numbers follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.frames import NO_OFFSET, Cosines, Frames
from birdsearch.search.query.vote_groups import GroupRules, join_groups
from birdsearch.search.sightings.cameras import apart_folders, cameras_of
from birdsearch.search.sightings.exposures import exposures_of

__all__ = ["EventRules", "Grouping", "events_of"]

_SECOND_US = 1_000_000
_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True)
class EventRules:
    """Rules by which photos belong together.

    Attributes:
        burst_gap_s: Frames of a burst are less than this many seconds apart.
        event_gap_s: Exposures of an event are less than this many seconds apart.
        min_cosine: Cosine from which two frames are not unlike, -1..1, where the times have fractions.
        min_cosine_whole: The same where times are in whole seconds, so that the time alone does not tell a burst.
        copies: When a photo without a time is a copy.
    """

    burst_gap_s: float = 1.0
    event_gap_s: float = 60.0
    min_cosine: float = 0.3
    min_cosine_whole: float = 0.7
    copies: GroupRules = field(default_factory=GroupRules)

    def __post_init__(self) -> None:
        # Also refuses NaN. Microseconds of more than a century would not be counted exactly.
        if not 0.0 <= self.burst_gap_s <= self.event_gap_s <= 3.2e9:
            raise InvalidInputError(
                f"the burst gap is {self.burst_gap_s} s and the event gap {self.event_gap_s} s; they have to be 0 "
                "to 3.2e9 seconds, the event gap the longer"
            )
        for name in ("min_cosine", "min_cosine_whole"):
            if not -1.0 <= getattr(self, name) <= 1.0:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it has to be within -1 to 1")


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """The groups of frames. A group is named by the smallest row in it.

    Attributes:
        cameras: (N,) int64, -1 where unknown.
        exposures: (N,) int64.
        bursts: (N,) int64; an exposure that is of no burst is one alone.
        events: (N,) int64.
        leads: (N,) bool, the frame of each exposure that stands for it: the one that tells time, camera and
            fraction of a second, of these one that is named as a camera names them, of these the one with most
            pixels, of equal ones the first by content.
        apart: (K, 2) int64, folders of one camera model that were taken for two cameras by their photos alone.
    """

    cameras: NDArray[np.int64]
    exposures: NDArray[np.int64]
    bursts: NDArray[np.int64]
    events: NDArray[np.int64]
    leads: NDArray[np.bool_]
    apart: NDArray[np.int64]


_RULES = EventRules()


def events_of(
    frames: Frames,
    cosines: Cosines,
    rules: EventRules = _RULES,
    deployments: NDArray[np.int64] | None = None,
) -> Grouping:
    """Group frames to exposures, bursts and events.

    Args:
        frames: N frames, in the order of their content.
        cosines: How alike two frames are.
        rules: When they belong together.
        deployments: (N,) int64 codes, -1 where unknown; they tell cameras without a serial number apart.

    Returns:
        The groups; they do not depend on photo ids.
    """
    apart = apart_folders(frames, rules.event_gap_s, rules.copies, deployments)
    cameras = cameras_of(frames, apart, deployments)
    exposures = exposures_of(frames, cameras, cosines, rules.copies)
    leads = _leads(frames, cameras, exposures)
    bursts, events = exposures.copy(), exposures.copy()
    timed = np.flatnonzero(leads & frames.has_time & (cameras >= 0))
    clock, is_utc = _clocks(frames, cameras, timed)
    order = np.lexsort((timed, frames.numbers[timed], clock[timed], cameras[timed]))
    row = timed[order]
    left, right = row[:-1], row[1:]
    gaps = np.diff(clock[row])
    known = (frames.offsets[left] != NO_OFFSET) & (frames.offsets[right] != NO_OFFSET)
    together = (cameras[left] == cameras[right]) & (gaps < round(rules.event_gap_s * 1e6))
    together &= is_utc[left] | ~known | (frames.offsets[left] == frames.offsets[right])
    join_groups(events, left[together], right[together])
    near = together & _may_be_burst(frames, events, row, gaps, rules)
    left, right, gaps = left[near], right[near], gaps[near]
    alike = cosines(left, right)
    least = np.where(_tells_fractions(frames, events, row)[left], rules.min_cosine, rules.min_cosine_whole)
    # Of a frame without a vector its time has to do.
    is_burst = np.isnan(alike) | (alike >= least)
    join_groups(bursts, left[is_burst], right[is_burst])
    return Grouping(cameras, exposures, bursts, events, leads, apart)


def _clocks(
    frames: Frames, cameras: NDArray[np.int64], timed: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return times to order the frames of one camera by: UTC if all of them have an offset, else wall-clock.

    Returns:
        (N,) int64 microseconds, and (N,) bool, whether they are UTC.
    """
    tells = np.ones(int(cameras.max(initial=0)) + 1, bool)
    tells[cameras[timed[frames.offsets[timed] == NO_OFFSET]]] = False
    is_utc = tells[cameras] & (cameras >= 0) & (frames.offsets != NO_OFFSET)
    return frames.stamps - np.where(is_utc, frames.offsets, 0) * _MINUTE_US, is_utc


def _tells_fractions(frames: Frames, events: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return for each frame whether any time of its event has a fraction: 12:00:05 is then exactly that."""
    found = np.zeros(len(frames), bool)
    found[events[row[frames.has_fraction[row]]]] = True
    return found[events]


def _may_be_burst(
    frames: Frames,
    events: NDArray[np.int64],
    row: NDArray[np.int64],
    gaps: NDArray[np.int64],
    rules: EventRules,
) -> NDArray[np.bool_]:
    """Return for each two neighbours whether their times allow a burst."""
    left, right = row[:-1], row[1:]
    limit = round(rules.burst_gap_s * 1e6)
    is_exact = _tells_fractions(frames, events, row)[left]
    follow = (frames.prefixes[left] == frames.prefixes[right]) & frames.is_counted[left]
    step = frames.numbers[right] - frames.numbers[left]
    # After 9999 a camera counts from 0000 or 0001.
    turned = (frames.numbers[right] <= 1) & np.isin(frames.numbers[left], (999, 9999, 99999, 999999))
    follow &= (step == 1) | turned
    whole = (gaps < limit + _SECOND_US) & ((gaps == 0) | follow) & (limit > 0)
    return np.asarray(np.where(is_exact, gaps < limit, whole))


def _leads(frames: Frames, cameras: NDArray[np.int64], exposures: NDArray[np.int64]) -> NDArray[np.bool_]:
    rows = np.arange(len(frames))
    is_timed = frames.has_time & (cameras >= 0)
    order = np.lexsort(
        (
            *(rows, -frames.pixels, ~frames.is_bare, ~frames.has_fraction, frames.serials < 0, ~is_timed),
            exposures,
        )
    )
    leads = np.zeros(len(frames), bool)
    leads[order[np.flatnonzero(np.diff(exposures[order], prepend=-1))]] = True
    return leads
