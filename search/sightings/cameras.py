"""The camera of each photo.

A camera is told by make, model and serial number. Photos of a model without a serial number are of one camera,
unless they are of different deployments, or lie in two folders that are as two cameras leave them; then each such
folder is a camera of its own. So it is if most of their photos of one second and file number show different
pictures, as cameras in step take them; or if their photos interleave (go from one to the other and back within the
gap of an event) with file numbers that do not rise along. One camera's photos sorted into folders are of that one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birdsearch.display_path import display_path
from birdsearch.indexer.catalog.frames import Frames
from birdsearch.search.query.vote_groups import GroupRules
from birdsearch.search.sightings.exposures import bits_apart, within_groups

__all__ = ["apart_folders", "cameras_of", "warn_of_apart"]

_SECOND_US = 1_000_000
# How far a camera's counter may run on between two photos that lie in two folders.
_COUNTER_STEP = 100
# Of the switches between two folders, one camera's file numbers rise along in so many at least.
_LEAST_RISING = 0.75


def cameras_of(
    frames: Frames, apart: NDArray[np.int64], deployments: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Return the camera of each frame.

    Args:
        frames: N frames.
        apart: (K, 2) int64, as `apart_folders` gives them.
        deployments: (N,) int64 codes, -1 where unknown.

    Returns:
        (N,) int64 codes, -1 where make and model are unknown.
    """
    bare = (frames.models >= 0) & (frames.serials < 0)
    deployment = np.full(len(frames), -1) if deployments is None else np.where(bare, deployments, -1)
    folder = np.full(len(frames), -1)
    is_apart = bare & (deployment < 0) & np.isin(frames.folders, apart)
    folder[is_apart] = frames.folders[is_apart]
    codes = frames.models
    for further in (frames.serials, deployment, folder):
        # Numbered anew after each, so that the products stay small.
        keys = (codes + 1) * (int(further.max(initial=-1)) + 2) + further + 1
        codes = np.unique(keys, return_inverse=True)[1].reshape(-1)
    return np.where(frames.models >= 0, codes, -1)


def apart_folders(
    frames: Frames, event_gap_s: float, copies: GroupRules, deployments: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Find folders whose photos, of one model without serial numbers and of no deployment, are of two cameras.

    Args:
        frames: N frames.
        event_gap_s: What photos of two folders interleave within.
        copies: When two hashes are near.
        deployments: (N,) int64 codes, -1 where unknown.

    Returns:
        (K, 2) int64 pairs of positions in `folder_names`, each once, the smaller first.
    """
    bare = (frames.models >= 0) & (frames.serials < 0) & frames.has_time & (frames.folders >= 0)
    if deployments is not None:
        bare &= deployments < 0
    rows = np.flatnonzero(bare)
    return np.unique(
        np.concatenate([_in_step(frames, rows, copies), _interleaved(frames, rows, event_gap_s, copies)]),
        axis=0,
    )


def warn_of_apart(frames: Frames, apart: NDArray[np.int64]) -> tuple[str, ...]:
    """Say which folders were taken for two cameras, a line for a person, or nothing."""
    if not len(apart):
        return ()
    one, other = (display_path(frames.folder_names[folder]) for folder in apart[0].tolist())
    count = len(np.unique(apart))
    line = (
        f"{count} folders hold photos of one camera model without a serial number that overlap in time as those of "
        f"several cameras do, such as {one} and {other}: each counts as a camera of its own. `birdsearch "
        "deployments` records which folders are of which camera"
    )
    return (line,)


def _two_pictures(
    frames: Frames, left: NDArray[np.int64], right: NDArray[np.int64], copies: GroupRules
) -> NDArray[np.bool_]:
    """Return which pairs are two pictures: both have hashes, and these are not near."""
    has = frames.has_hash[left] & frames.has_hash[right]
    return np.asarray(has & (bits_apart(frames, left, right) > copies.bits))


def _folder_pairs(
    frames: Frames, left: NDArray[np.int64], right: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of folders, (K, 2), and which of them each pair of frames is of, (P,)."""
    both = np.stack([frames.folders[left], frames.folders[right]], axis=1)
    pairs, which = np.unique(np.sort(both, axis=1), axis=0, return_inverse=True)
    return pairs, which.reshape(-1)


def _in_step(frames: Frames, rows: NDArray[np.int64], copies: GroupRules) -> NDArray[np.int64]:
    """Return folders most of whose photos of one second and file number are two pictures."""
    # A name that something was added to is that of a version, which may be cropped.
    rows = rows[frames.is_counted[rows] & frames.is_bare[rows]]
    keys = (frames.models, frames.stamps // _SECOND_US, frames.prefixes, frames.numbers)
    rows = rows[np.lexsort((rows, *(key[rows] for key in keys[::-1])))]
    found = list(within_groups(rows, keys))
    left, right = (np.concatenate([rows[:0], *(pair[side] for pair in found)]) for side in (0, 1))
    elsewhere = frames.folders[left] != frames.folders[right]
    left, right = left[elsewhere], right[elsewhere]
    pairs, which = _folder_pairs(frames, left, right)
    differ = np.bincount(which, weights=_two_pictures(frames, left, right, copies), minlength=len(pairs))
    return pairs[2 * differ > np.bincount(which, minlength=len(pairs))]


def _interleaved(
    frames: Frames, bare: NDArray[np.int64], event_gap_s: float, copies: GroupRules
) -> NDArray[np.int64]:
    """Return folders between which photos go back and forth, while file numbers do not rise along."""
    # Of the files of one exposure the one that tells a fraction: an edited copy lies in another folder.
    keys = (
        frames.models[bare],
        frames.stamps[bare] // _SECOND_US,
        frames.prefixes[bare],
        frames.numbers[bare],
    )
    order = np.lexsort((bare, ~frames.has_fraction[bare], *keys[::-1]))
    sorted_keys = np.stack(keys, axis=1)[order]
    is_first = np.ones(len(bare), bool)
    is_first[1:] = (np.diff(sorted_keys, axis=0) != 0).any(axis=1) | (sorted_keys[1:, 3] < 0)
    bare = bare[order[is_first]]
    row = bare[np.lexsort((bare, frames.numbers[bare], frames.stamps[bare], frames.models[bare]))]
    left, right = row[:-1], row[1:]
    gaps = np.diff(frames.stamps[row])
    counted = (frames.prefixes[left] == frames.prefixes[right]) & frames.is_counted[left]
    switch = (frames.models[left] == frames.models[right]) & (frames.folders[left] != frames.folders[right])
    # At one time, a copy with a name of its own is no switch.
    switch &= (gaps > 0) | (counted & _two_pictures(frames, left, right, copies))
    switch &= (gaps >= 0) & (gaps < round(event_gap_s * 1e6))
    left, right, counted = left[switch], right[switch], counted[switch]
    step = frames.numbers[right] - frames.numbers[left]
    is_counter = counted & (step > 0) & (step <= _COUNTER_STEP)
    pairs, which = _folder_pairs(frames, left, right)
    switches = np.bincount(which, minlength=len(pairs))
    forth = np.bincount(which, weights=frames.folders[left] < frames.folders[right], minlength=len(pairs))
    rising = np.bincount(which, weights=is_counter, minlength=len(pairs))
    return pairs[(forth > 0) & (forth < switches) & (rising < _LEAST_RISING * switches)]
