"""Bursts and events, summarised one by one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from birdsearch.search.sightings.find import FoundSightings, ids_of_groups
from birdsearch.search.sightings.labels import representatives
from birdsearch.search.sightings.spans import span_of

__all__ = ["GroupSummary", "list_groups"]


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """A burst or an event.

    Attributes:
        group: Its name, the smallest photo id in it.
        started_at: First wall-clock time, ISO 8601, or None.
        ended_at: Last, on the clock of the first.
        camera: Make and model, or None.
        site: Of its deployment, or None; None too where the exact place is hidden.
        frames: Exposures; copies count once.
        photos: Photos, copies included.
        sightings: Numbers of the sightings that it is of, or parts of it are.
        photo_id: The sharpest exposure, of equal ones the first by content.
    """

    group: int
    started_at: str | None
    ended_at: str | None
    camera: str | None
    site: str | None
    frames: int
    photos: int
    sightings: tuple[int, ...]
    photo_id: int

    def to_dict(self) -> dict[str, object]:
        """Return the group as JSON types."""
        return {
            "group": self.group,
            "started_at": self.started_at,
            "ended_at": self.ended_at,
            "camera": self.camera,
            "site": self.site,
            "frames": self.frames,
            "photos": self.photos,
            "sightings": [f"s{number}" for number in self.sightings],
            "photo_id": self.photo_id,
        }


def list_groups(found: FoundSightings, level: Literal["bursts", "events"]) -> list[GroupSummary]:
    """Return the bursts of two exposures or more, or all events.

    Args:
        found: What `birdsearch.search.sightings.find.find_sightings` gave.
        level: Which of the two.

    Returns:
        In order of their first times; those without a time last.
    """
    frames, grouping = found.frames, found.grouping
    groups = grouping.bursts if level == "bursts" else grouping.events
    names = ids_of_groups(frames.photo_ids, groups)
    best = representatives(groups, np.flatnonzero(grouping.leads), (frames.sharpness,))
    first = np.full(len(frames), np.iinfo(np.int64).max)
    timed = frames.has_time
    np.minimum.at(first, groups[timed], frames.stamps[timed])
    order = np.lexsort((groups, first[groups]))
    edges = np.flatnonzero(np.diff(groups[order], prepend=-1, append=-1))
    listed = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        some = order[start:end]
        leads = some[grouping.leads[some]]
        if level == "bursts" and len(leads) < 2:
            continue
        started_at, ended_at = span_of(frames, leads)
        model, site = int(frames.models[leads].max()), int(found.sites[some].max())
        group = int(groups[some[0]])
        listed.append(
            GroupSummary(
                group=int(names[group]),
                started_at=started_at,
                ended_at=ended_at,
                camera=frames.model_names[model] if model >= 0 else None,
                site=found.site_names[site] if site >= 0 and not found.hidden[some].any() else None,
                frames=len(leads),
                photos=len(some),
                sightings=tuple(np.unique(found.numbers[some]).tolist()),
                photo_id=int(frames.photo_ids[best[group]]),
            )
        )
    return listed
