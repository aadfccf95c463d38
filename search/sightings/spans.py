"""The span of time of some frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.frames import NO_OFFSET, Frames

__all__ = ["span_of"]

_MINUTE_US = 60_000_000


def span_of(frames: Frames, some: NDArray[np.int64]) -> tuple[str | None, str | None]:
    """Return the first and the last time of frames, both on the clock of the first.

    Where all of them tell their offset from UTC, an event during which clocks are put back by an hour lasts as long
    as it lasted, and does not end before it began.

    Args:
        frames: N frames.
        some: (M,) int64, rows of frames.

    Returns:
        Wall-clock times, ISO 8601; None if no time is known.
    """
    timed = some[frames.has_time[some]]
    if not len(timed):
        return None, None
    offsets = frames.offsets[timed]
    shift = offsets * _MINUTE_US if (offsets != NO_OFFSET).all() else np.zeros(len(timed), np.int64)
    clock = frames.stamps[timed] - shift
    first = int(np.argmin(clock))
    started = frames.times[timed[first]]
    return _time_text(started), _time_text(started + np.timedelta64(int(clock.max() - clock[first]), "us"))


def _time_text(moment: np.datetime64) -> str:
    """Return a wall-clock time, ISO 8601, with a fraction if it has one."""
    text = str(moment.astype("datetime64[us]"))
    return text.removesuffix(".000000")
