"""The deployment of each photo, by folder, time and camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.deployments import Deployment
from birdsearch.indexer.catalog.frames import NO_OFFSET, Frames

__all__ = ["Assignment", "assign"]

_MINUTE_US = 60_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Assignment:
    """The deployment of each photo.

    Attributes:
        deployments: What was chosen among.
        codes: (N,) int64, indices of `deployments`, -1 for none.
        conflicts: What keeps photos from having one, in words, with how many they are.
    """

    deployments: tuple[Deployment, ...]
    codes: NDArray[np.int64]
    conflicts: tuple[str, ...]


def assign(deployments: Sequence[Deployment], frames: Frames) -> Assignment:
    """Assign each frame to a deployment.

    The deepest folder of a deployment that holds the photo counts; of several deployments of that folder, the one
    whose camera and times fit. Photos in no such folder are of the deployment without a folder whose camera and
    times fit. A photo that several fit is of none, unless its own folder (see `Frames`) decides; and one in a
    deployment's folder that does not fit it is of none. A time that is not known fits all times.

    Args:
        deployments: The deployments.
        frames: N frames.
    """
    count = len(frames)
    codes, depth = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    held = np.full(count, -1, np.int64)  # The deployment by whose folder `depth` is.
    fitting = np.zeros(count, np.int64)
    is_main = np.zeros(count, bool)
    for code, one in enumerate(deployments):
        inside, main, level = _inside(one, frames)
        rows = np.flatnonzero(inside & (depth <= level))
        deeper = rows[depth[rows] < level]
        codes[deeper], fitting[deeper], is_main[deeper] = -1, 0, False
        depth[rows], held[deeper] = level, code
        fits = rows[_fits(one, frames, rows)]
        # A photo's own folder is preferred to those of its other files.
        better, as_good = fits[main[fits] & ~is_main[fits]], fits[main[fits] == is_main[fits]]
        fitting[as_good] += 1
        codes[as_good[codes[as_good] < 0]] = code
        codes[better], fitting[better], is_main[better] = code, 1, True
    codes[fitting > 1] = -1
    conflicts = []
    misfits: Counter[bytes] = Counter()
    for code in held[(fitting == 0) & (depth > 0)].tolist():
        misfits[deployments[code].folder or b""] += 1
    for folder, number in sorted(misfits.items()):
        where = f"{_photos(number)} in {display_path(folder)} {_be(number)}"
        conflicts.append(f"{where} of another camera or time than its deployment")
    several = int((fitting > 1).sum())
    if several:
        conflicts.append(
            f"{_photos(several)} {_be(several)} of more than one deployment, by folder, camera and time"
        )
    return Assignment(tuple(deployments), codes, tuple(conflicts))


def _photos(count: int) -> str:
    return f"{count} photo{'' if count == 1 else 's'}"


def _be(count: int) -> str:
    return "is" if count == 1 else "are"


def _inside(one: Deployment, frames: Frames) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """Return which frames have a file in the folder, which of them their own, and how deep it is."""
    if one.folder is None:
        every = np.ones(len(frames), bool)
        return every, every, 0
    prefix = one.folder.rstrip(b"/") + b"/"
    within = np.array([(name + b"/").startswith(prefix) for name in frames.folder_names], dtype=bool)
    inside = np.zeros(len(frames), bool)
    inside[frames.file_rows[within[frames.file_folders]]] = True
    main = np.zeros(len(frames), bool)
    has = frames.folders >= 0
    main[has] = within[frames.folders[has]]
    return inside, main, prefix.count(b"/")


def _fits(one: Deployment, frames: Frames, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    fits = np.ones(len(rows), bool)
    if one.camera is not None:
        wanted = one.camera.strip().casefold()
        serials = [name.casefold() == wanted for name in frames.serial_names]
        models = [wanted in name.casefold() for name in frames.model_names]
        # The last stands for -1, what is unknown: it is no reason to doubt a folder.
        unknown = one.folder is not None
        by_serial = np.array([*serials, False])[frames.serials[rows]]
        by_model = np.array([*models, unknown])[frames.models[rows]]
        fits &= by_serial | by_model
    for moment, is_start in zip(one.span, (True, False), strict=True):
        if moment is not None:
            stamps, limits = _comparable(frames, rows, moment)
            fits &= np.isnat(frames.times[rows]) | ((stamps >= limits) if is_start else (stamps <= limits))
    if one.folder is None and one.starts_at is None and one.ends_at is None:
        return fits
    # Without a folder, a photo has to tell its time to be within times.
    return fits & (one.folder is not None or ~np.isnat(frames.times[rows]))


def _comparable(
    frames: Frames, rows: NDArray[np.int64], moment: datetime
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return microseconds of the photos and of the moment, in UTC if both have an offset, else by their clocks."""
    stamps, offsets = frames.stamps[rows], frames.offsets[rows]
    wall = int(np.datetime64(moment.replace(tzinfo=None), "us").astype(np.int64))
    if moment.tzinfo is None:
        return stamps, np.full(len(rows), wall)
    utc = int(np.datetime64(moment.astimezone(UTC).replace(tzinfo=None), "us").astype(np.int64))
    known = offsets != NO_OFFSET
    return np.where(known, stamps - offsets * _MINUTE_US, stamps), np.where(known, utc, wall)
