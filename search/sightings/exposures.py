"""Exposures: a photo and its copies, which are counted once.

Only one picture is one exposure, whatever times and names say: clocks may be set alike, and counters run in step.
Two photos are one picture if their hashes are near. They may be too, one of them cropped, if their vectors are not
unlike and it is one camera that is known by its serial number, one folder, or a name that an editor has added to.
Where a hash is missing, times and names have to do. Of what may be one picture, these are one exposure:

- Photos of one camera and one time, to the fraction of a second, unless the camera counted two frames.
- Photos of one camera, second and file number, where one of them tells no fraction: RAW and JPEG, and what editors
  wrote that drop the fraction, or the serial number.
- Photos of one camera, second and name, but for what tells a size (`-640`, `-1024x683`, `_thumb`), that differ in
  their size and have near hashes.
- A photo that tells no fraction, and whose name tells no other number of the same kind, is a copy of the photo of
  its camera and second whose hash is nearest, if any is near. So it is not where none tells a fraction: frames of
  a burst have near hashes too.
- A photo without a time or a camera is a copy of the one timed photo whose hash is nearest, if any is near, one of
  the same file number before others; else of other such photos whose hashes are near. Its time is not guessed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.catalog.frames import Cosines, Frames
from birdsearch.search.query.vote_groups import MIRROR, GroupRules, differing_bits, join_groups, near_hashes

__all__ = ["bits_apart", "exposures_of", "within_groups"]

_SECOND_US = 1_000_000
# More photos of one second are of a clock that was never set; names still tell copies there.
_MOST_A_SECOND = 256
# Bits of a hash: no two differ in more.
_FARTHEST = 64
_COPIES = GroupRules()
# Photos of one exact time, or of one second and number, that are compared with each other.
_MOST_ALIKE = 32
# NOTE: least cosine of a picture and a part of it. Of 90 real photos, 99 % of those cropped to 80 % of their sides
# had at least 0.80, and 95 % of those cropped to 70 % at least 0.67; 99 % of the pairs of them had at most 0.50.
_MIN_CROP_COSINE = 0.6
# A version of another size differs by so much.
_OTHER_SIZE = 1.1


def exposures_of(
    frames: Frames, cameras: NDArray[np.int64], cosines: Cosines, copies: GroupRules = _COPIES
) -> NDArray[np.int64]:
    """Return the exposure of each frame: a photo and its copies; see the module's rules.

    Args:
        frames: N frames.
        cameras: (N,) int64, as `cameras_of` gives them.
        cosines: How alike two frames are.
        copies: When a hash is near.

    Returns:
        (N,) int64, for each frame the smallest row of its exposure.
    """
    labels = np.arange(len(frames), dtype=np.int64)
    timed = np.flatnonzero(frames.has_time & (cameras >= 0))
    is_one = _Pictures(frames, cosines, copies)
    _join_same_time(labels, frames, cameras, timed[frames.has_fraction[timed]], is_one)
    _join_same_number(labels, frames, cameras, timed, is_one)
    _join_sizes(labels, frames, cameras, timed, is_one)
    _join_same_second(labels, frames, cameras, timed, cosines, copies)
    is_timed = np.zeros(len(frames), bool)
    is_timed[timed] = True
    _join_untimed(labels, frames, is_timed, cosines, copies)
    return labels


class _Pictures:
    """Tells whether two frames may be one picture; see the module's rule."""

    def __init__(self, frames: Frames, cosines: Cosines, copies: GroupRules) -> None:
        self._frames, self._cosines, self._copies = frames, cosines, copies

    def near(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which pairs have hashes both that are near, (P,) bool."""
        frames = self._frames
        has = frames.has_hash[left] & frames.has_hash[right]
        return np.asarray(has & (bits_apart(frames, left, right) <= self._copies.bits))

    def __call__(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which pairs may be one picture, (P,) bool."""
        frames = self._frames
        found = self.near(left, right) | ~(frames.has_hash[left] & frames.has_hash[right])
        edited = ~(frames.is_bare[left] & frames.is_bare[right])
        one_camera = (frames.serials[left] >= 0) & (frames.serials[left] == frames.serials[right])
        one_folder = frames.folders[left] == frames.folders[right]
        doubtful = np.flatnonzero(~found & (edited | one_camera | one_folder))
        # A missing vector compares as unlike.
        found[doubtful] = self._cosines(left[doubtful], right[doubtful]) >= _MIN_CROP_COSINE
        return found


def bits_apart(frames: Frames, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count the bits in which the hashes of two frames differ, mirrored or not; (P,) int64."""
    hashes = frames.hashes
    plain = differing_bits(hashes[left], hashes[right])
    return np.asarray(np.minimum(plain, differing_bits(hashes[left] ^ MIRROR, hashes[right])), dtype=np.int64)


def within_groups(
    row: NDArray[np.int64], keys: Sequence[NDArray[np.int64]]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of rows whose keys are equal, neighbours first; not all pairs of a large group.

    Args:
        row: (R,) int64 rows, sorted by the keys.
        keys: (N,) int64 each, by row.
    """
    is_first = np.ones(len(row), bool)
    is_first[1:] = np.logical_or.reduce([key[row[1:]] != key[row[:-1]] for key in keys])
    groups = np.cumsum(is_first)
    for step in range(1, _MOST_ALIKE):
        same = np.flatnonzero(groups[step:] == groups[:-step])
        if not len(same):
            return
        yield row[same], row[same + step]


def _join_same_time(
    labels: NDArray[np.int64],
    frames: Frames,
    cameras: NDArray[np.int64],
    exact: NDArray[np.int64],
    is_one: _Pictures,
) -> None:
    """Join frames of the same camera and time with a fraction, unless the camera counted two frames."""
    stamps, prefixes, numbers = frames.stamps, frames.prefixes, frames.numbers
    row = exact[np.lexsort((exact, numbers[exact], prefixes[exact], stamps[exact], cameras[exact]))]
    for step, (left, right) in enumerate(within_groups(row, (cameras, stamps))):
        one_prefix = prefixes[left] == prefixes[right]
        same = ~one_prefix | (numbers[left] == numbers[right])
        # Beyond neighbours, names of another kind say nothing.
        same &= one_prefix | (step == 0)
        left, right = left[same], right[same]
        same = is_one(left, right)
        join_groups(labels, left[same], right[same])


def _fits(
    frames: Frames, cameras: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Return which pairs are of one model and second, and may be of one camera."""
    same = (frames.models[left] == frames.models[right]) & (
        frames.stamps[left] // _SECOND_US == frames.stamps[right] // _SECOND_US
    )
    # Editors may drop the serial number and the fraction. Cameras without serial numbers are known by their
    # folders, and a copy may lie in another one.
    may_be = (frames.serials[left] < 0) | (frames.serials[right] < 0)
    blurred = ~(frames.has_fraction[left] & frames.has_fraction[right])
    return np.asarray(same & blurred & ((cameras[left] == cameras[right]) | may_be))


def _join_same_number(
    labels: NDArray[np.int64],
    frames: Frames,
    cameras: NDArray[np.int64],
    timed: NDArray[np.int64],
    is_one: _Pictures,
) -> None:
    timed = timed[frames.is_named[timed]]
    seconds = frames.stamps // _SECOND_US
    keys = (frames.models, seconds, frames.prefixes, frames.numbers)
    row = timed[
        np.lexsort((timed, cameras[timed], frames.serials[timed], *(key[timed] for key in keys[::-1])))
    ]
    for left, right in within_groups(row, keys):
        same = _fits(frames, cameras, left, right)
        left, right = left[same], right[same]
        same = is_one(left, right)
        # Of two cameras as far as folders tell, only what an editor made of a picture that is surely the same.
        one_serial = (frames.serials[left] < 0) != (frames.serials[right] < 0)
        edited = ~(frames.is_bare[left] & frames.is_bare[right])
        same &= (cameras[left] == cameras[right]) | one_serial | (edited & is_one.near(left, right))
        join_groups(labels, left[same], right[same])


def _join_sizes(
    labels: NDArray[np.int64],
    frames: Frames,
    cameras: NDArray[np.int64],
    timed: NDArray[np.int64],
    is_one: _Pictures,
) -> None:
    """Join versions of another size that only their names' endings and their sizes tell from each other."""
    timed = timed[frames.bases[timed] >= 0]
    keys = (cameras, frames.stamps // _SECOND_US, frames.bases)
    row = timed[np.lexsort((timed, frames.pixels[timed], *(key[timed] for key in keys[::-1])))]
    for left, right in within_groups(row, keys):
        # The row goes from the smallest to the largest.
        resized = frames.pixels[right] >= _OTHER_SIZE * frames.pixels[left]
        left, right = left[resized], right[resized]
        same = is_one.near(left, right)
        join_groups(labels, left[same], right[same])


def _join_same_second(
    labels: NDArray[np.int64],
    frames: Frames,
    cameras: NDArray[np.int64],
    timed: NDArray[np.int64],
    cosines: Cosines,
    copies: GroupRules,
) -> None:
    """Join each photo without a fraction to the one of its second whose hash is nearest, if no name says more."""
    seconds = frames.stamps // _SECOND_US
    row = timed[frames.has_hash[timed]]
    row = row[np.lexsort((row, seconds[row], frames.models[row]))]
    starts = np.flatnonzero(
        (np.diff(frames.models[row], prepend=-2) != 0) | (np.diff(seconds[row], prepend=0) != 0)
    )
    lengths = np.diff(starts, append=len(row))
    lengths = np.repeat(np.where(lengths <= _MOST_A_SECOND, lengths, 0), lengths)
    best, original = np.full(len(frames), _FARTHEST, np.int64), np.full(len(frames), len(frames), np.int64)
    for step in range(1, int(lengths.max(initial=1))):
        some = np.flatnonzero(lengths[:-step] > step)
        left, right = row[some], row[some + step]
        is_left = ~frames.has_fraction[left]
        copy, match = np.where(is_left, left, right), np.where(is_left, right, left)
        near = _fits(frames, cameras, copy, match) & frames.has_fraction[match]
        # Of one kind but another number, they are two frames.
        near &= (frames.prefixes[copy] != frames.prefixes[match]) | (
            frames.numbers[copy] == frames.numbers[match]
        )
        copy, match = copy[near], match[near]
        differing = differing_bits(frames.hashes[copy], frames.hashes[match])
        near = differing <= copies.bits
        near[near] = _are_copies(copy[near], match[near], differing[near], cosines, copies)
        copy, match, differing = copy[near], match[near], differing[near]
        _take_nearer(best, original, copy, match, differing)
    found = np.flatnonzero(original < len(frames))
    join_groups(labels, found, original[found])


def _take_nearer(
    best: NDArray[np.int64],
    original: NDArray[np.int64],
    copy: NDArray[np.int64],
    match: NDArray[np.int64],
    far: NDArray[np.int64],
) -> None:
    """Keep for each copy the nearest match so far, of equally near ones the first, in place."""
    order = np.lexsort((match, far, copy))
    first = order[np.flatnonzero(np.diff(copy[order], prepend=-1))]
    copy, match, far = copy[first], match[first], far[first]
    better = (far < best[copy]) | ((far == best[copy]) & (match < original[copy]))
    best[copy[better]], original[copy[better]] = far[better], match[better]


def _are_copies(
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    differing: NDArray[np.int64],
    cosines: Cosines,
    copies: GroupRules,
) -> NDArray[np.bool_]:
    found = differing <= copies.same_bits
    doubtful = np.flatnonzero(~found)
    # A missing vector compares as unlike.
    found[doubtful] = cosines(left[doubtful], right[doubtful]) >= copies.min_cosine
    return found


def _join_untimed(
    labels: NDArray[np.int64],
    frames: Frames,
    is_timed: NDArray[np.bool_],
    cosines: Cosines,
    copies: GroupRules,
) -> None:
    """Join each photo without a time or a camera to the timed one that it is nearest to, else to its like."""
    hashed = np.flatnonzero(frames.has_hash)
    untimed = hashed[~is_timed[hashed]]
    best = np.full(len(frames), 2 * _FARTHEST, np.int64)
    original = np.full(len(frames), len(frames), np.int64)
    others: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []

    for copy, match, differing in _near(frames, untimed, hashed, copies.bits):
        # Of several that are near, as frames of a burst are, the one of the same number comes first.
        same_number = (frames.prefixes[copy] == frames.prefixes[match]) & (
            frames.numbers[copy] == frames.numbers[match]
        )
        far = differing + _FARTHEST * ~(same_number & (frames.numbers[copy] >= 0))
        # What is farther than what was found already needs no look at its vector.
        may = _may_be_copy(frames, copy, match) & (~is_timed[match] | (far <= best[copy]))
        copy, match, differing, far = copy[may], match[may], differing[may], far[may]
        good = _are_copies(copy, match, differing, cosines, copies)
        copy, match, far, known = copy[good], match[good], far[good], is_timed[match[good]]
        others.append((copy[~known], match[~known]))
        copy, match, far = copy[known], match[known], far[known]
        _take_nearer(best, original, copy, match, far)
    found = np.flatnonzero(original < len(frames))
    join_groups(labels, found, original[found])
    for left, right in others:
        # Copies of two originals stay apart, however near they are.
        free = (original[left] == len(frames)) & (original[right] == len(frames))
        join_groups(labels, left[free], right[free])


def _near(
    frames: Frames, untimed: NDArray[np.int64], hashed: NDArray[np.int64], bits: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]]:
    for flipped in (np.uint64(0), MIRROR):
        asked = frames.hashes[untimed] ^ flipped
        for left, right, differing in near_hashes(asked, frames.hashes[hashed], bits):
            apart = untimed[left] != hashed[right]
            yield untimed[left][apart], hashed[right][apart], differing[apart]


def _may_be_copy(frames: Frames, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pairs agree in model and second, as far as both are known."""
    models = (frames.models[left] < 0) | (frames.models[right] < 0)
    models |= frames.models[left] == frames.models[right]
    times = np.isnat(frames.times[left]) | np.isnat(frames.times[right])
    times |= frames.stamps[left] // _SECOND_US == frames.stamps[right] // _SECOND_US
    return np.asarray(models & times)
