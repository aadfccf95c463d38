"""Groups of photos that are no independent evidence: copies of one picture, frames of one sequence.

A photo's own copies and the frames of its burst show the same bird at the same moment. Where labels are
estimated, calibrated or cross-validated, they must not vote for it; whole groups vote or are left out.
A pair that is joined by mistake costs a vote; a pair that is missed lets a photo vouch for itself. Where the
two cannot both be avoided, the rules here join.

A sequence is not an event: events are for counting, with a shorter gap; see `birdsearch.search.sightings.events`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.embeddings import normalised, unit_vectors
from birdsearch.indexer.catalog.files import first_folders
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.indexer.catalog.views import view_captures

__all__ = [
    "MIRROR",
    "GroupRules",
    "Kinship",
    "differing_bits",
    "groups_of",
    "hash_bands",
    "join_groups",
    "kinship",
    "near_hashes",
    "vote_groups",
]

Pairs = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Indices of the left and of the right hashes, and how many bits differ."""

_BANDS, _BAND_BITS = 4, 16
_MOST_BITS = 16
# Pairs that are compared at a time, and pairs whose vectors are held at a time: they bound the memory.
_PAIRS, _VECTOR_PAIRS = 1_000_000, 65_536
MIRROR = np.uint64(0xAAAAAAAAAAAAAAAA)
"""The bits of a hash that change when its picture is mirrored.

Of its 8 x 8 coefficients those with an odd horizontal frequency change their sign: every second column, the first
included.
"""
_SECOND_US = 1_000_000


@dataclass(frozen=True, slots=True)
class GroupRules:
    """Rules by which photos belong together.

    Attributes:
        gap_s: Photos of one camera at most this many seconds apart are of one sequence.
        longest_s: A sequence lasts at most so many seconds; one that goes on is cut at its widest gaps.
        same_bits: Photos whose perceptual hashes differ in at most so many bits are copies.
        bits: Photos whose hashes differ in at most so many bits are copies if their vectors are alike too.
        min_cosine: What "alike" is, as the cosine of the embeddings: -1..1, higher is more alike.

    NOTE: the hash is by far the sharper of the two. Of 4.4 million pairs of unrelated real photos, none
    differed in at most 6 bits, one in at most 8, twelve in at most 10. Reduced, recompressed, grey and mirrored
    copies stay within 4 bits nine times in ten, while their cosine falls to 0.7 (small copies) and to 0.2 (grey
    ones). The cosine therefore decides only where the hash leaves a doubt.
    """

    gap_s: float = 300.0
    longest_s: float = 3600.0
    same_bits: int = 4
    bits: int = 10
    min_cosine: float = 0.9

    def __post_init__(self) -> None:
        for name in ("gap_s", "longest_s"):
            value = getattr(self, name)
            # Also refuses NaN. Microseconds of more than a century would not be counted exactly.
            if not 0.0 <= value <= 3.2e9:
                raise InvalidInputError(f"{name} is {value}; it has to be 0 to 3.2e9 seconds")
        if not 0 <= self.same_bits <= self.bits <= _MOST_BITS:
            raise InvalidInputError(
                f"same_bits is {self.same_bits} and bits is {self.bits}; they have to be at least 0 and at most "
                f"{_MOST_BITS} of the hash's 64, bits the greater"
            )
        if not -1.0 <= self.min_cosine <= 1.0:
            raise InvalidInputError(f"min_cosine is {self.min_cosine}; it has to be within -1 to 1")


_RULES = GroupRules()


@dataclass(frozen=True, slots=True, eq=False)
class Kinship:
    """The views that are one witness, and those that are no independent evidence about each other.

    Attributes:
        pictures: (N,) int64, for each view the smallest view id that shows the same picture: the same photo, or a
            copy of it. What is verified of copies was seen once.
        groups: (N,) int64, the smallest view id of the same picture or sequence.
    """

    pictures: NDArray[np.int64]
    groups: NDArray[np.int64]

    def first_of(self, names: Sequence[object]) -> NDArray[np.int64]:
        """Return one index for each picture and name, rising: what copies are said to be counts once.

        Args:
            names: N names. Copies that bear different ones, as photos of two birds do, count once for each.

        Returns:
            (W,) int64, the first index of each.
        """
        pairs = zip(self.pictures.tolist(), names, strict=True)
        first: dict[tuple[int, object], int] = {}
        for index, pair in enumerate(pairs):
            first.setdefault(pair, index)
        return np.array(sorted(first.values()), dtype=np.int64)


def vote_groups(
    store: CatalogStore,
    model_id: int,
    view_ids: Sequence[int] | NDArray[np.int64],
    rules: GroupRules = _RULES,
    *,
    vectors: Mapping[int, NDArray[np.float32]] | None = None,
) -> NDArray[np.int64]:
    """Return the groups of views; see `kinship`."""
    return kinship(store, model_id, view_ids, rules, vectors=vectors).groups


def kinship(
    store: CatalogStore,
    model_id: int,
    view_ids: Sequence[int] | NDArray[np.int64],
    rules: GroupRules = _RULES,
    *,
    vectors: Mapping[int, NDArray[np.float32]] | None = None,
) -> Kinship:
    """Return the picture and the group of each view: those of one group are no independent evidence on each other.

    All views of a photo are of one group; which photos are, `groups_of` says. The camera is make, model and
    serial number. Where it is unknown, photos of one folder stand for those of one camera. Only the views
    asked for count: what links two of them by way of a third is seen if that one is asked for as well.

    Args:
        store: An open catalog; reading is enough.
        model_id: The model whose vectors are compared. A photo without one has no copies by likeness.
        view_ids: N view ids, in any order; repeated ones are allowed.
        rules: When photos belong together.
        vectors: Stored vectors, whole and finite, by view id, that need not be read again.

    Returns:
        Both, named by the smallest view id among those asked for.

    Raises:
        InvalidInputError: A view is not in the catalog.
    """
    asked = np.asarray(view_ids, dtype=np.int64)
    wanted, inverse = np.unique(asked, return_inverse=True)
    captures = view_captures(store, wanted.tolist())
    if len(captures) < len(wanted):
        absent = [view_id for view_id in wanted.tolist() if view_id not in captures]
        few = ", ".join(str(view_id) for view_id in absent[:5])
        raise InvalidInputError(f"{len(absent)} of {len(wanted)} views are not in the catalog, such as {few}")
    known = {capture.photo_id: capture for capture in captures.values()}
    photo_ids = sorted(known)
    rows = [known[photo_id] for photo_id in photo_ids]
    without_camera = [row.photo_id for row in rows if row.camera is None and row.captured_at]
    folders = first_folders(store, without_camera)
    pictures, groups = _pictures_and_groups(
        [None if row.camera is None else f"{row.camera}\n{row.serial or ''}" for row in rows],
        [folders.get(photo_id) for photo_id in photo_ids],
        np.array([row.captured_at or "NaT" for row in rows], dtype="datetime64[us]"),
        [row.phash for row in rows],
        _unit_vectors(store, model_id, photo_ids, vectors or {}),
        rules,
    )
    row_of = {photo_id: row for row, photo_id in enumerate(photo_ids)}
    photo_rows = [row_of[captures[view_id].photo_id] for view_id in wanted.tolist()]

    def named(labels: NDArray[np.int64]) -> NDArray[np.int64]:
        of_view = labels[photo_rows]
        smallest = np.full(len(photo_ids), np.iinfo(np.int64).max)
        np.minimum.at(smallest, of_view, wanted)
        return np.asarray(smallest[of_view][inverse], dtype=np.int64)

    return Kinship(named(pictures), named(groups))


def _unit_vectors(
    store: CatalogStore,
    model_id: int,
    photo_ids: Sequence[int],
    known: Mapping[int, NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return the unit-norm vector of each photo's whole frame, (P, C); zeros where there is none."""
    whole = store.whole_views(photo_ids)
    view_ids = [whole.get(photo_id, 0) for photo_id in photo_ids]
    rest = [view_id for view_id in view_ids if view_id not in known]
    read = unit_vectors(store, model_id, rest)[0]
    if len(rest) == len(view_ids):
        return read
    found = np.zeros((len(view_ids), read.shape[1]), np.float32)
    is_known = np.array([view_id in known for view_id in view_ids])
    found[is_known] = normalised(np.stack([known[view_id] for view_id in view_ids if view_id in known]))
    found[~is_known] = read
    return found


def groups_of(
    cameras: Sequence[str | None],
    folders: Sequence[bytes | None],
    times: NDArray[np.datetime64],
    phashes: Sequence[bytes | None],
    unit: NDArray[np.float32],
    rules: GroupRules = _RULES,
) -> NDArray[np.int64]:
    """Return the group of each photo, by time and by likeness.

    - Sequence: photos of one camera, in the order of their times, each at most `gap_s` after the one before. What
      then lasts longer than `longest_s` is parted at the widest of its gaps (of equal ones, at that nearest to
      the middle) until no part does, so that a cut falls between bursts, not into one.
    - Copy: photos whose hashes, or the hash of one and of the other's mirror image, are near (see
      `GroupRules`). Photos that both tell a camera and a time are copies only if it is the same second: other
      files of an exposure keep its time (editors may drop the fraction), and frames of a camera that stands
      still look alike on all days.

    What is joined to one photo is joined to each other. The groups do not depend on the order of the photos.

    Args:
        cameras: P cameras; None where unknown.
        folders: P folders, used where the camera is unknown; None where unknown too.
        times: (P,) datetime64, wall-clock times; NaT where unknown.
        phashes: P hashes of 8 bytes (see `birdsearch.model.images.decode.perceptual_hash`), or None.
        unit: (P, C) float32, unit-norm; rows of zeros where there is no vector.
        rules: When photos belong together.

    Returns:
        (P,) int64, for each photo the index of the first of its group. Photos that belong with no other are a
        group each.

    Raises:
        InvalidInputError: The lengths differ, or a hash does not have 8 bytes.
    """
    return _pictures_and_groups(cameras, folders, times, phashes, unit, rules)[1]


def _pictures_and_groups(
    cameras: Sequence[str | None],
    folders: Sequence[bytes | None],
    times: NDArray[np.datetime64],
    phashes: Sequence[bytes | None],
    unit: NDArray[np.float32],
    rules: GroupRules,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each photo the index of the first of its picture, and of its group: (P,) int64 each."""
    count = len(cameras)
    if not len(folders) == len(times) == len(phashes) == len(unit) == count:
        raise InvalidInputError(
            f"{count} cameras need as many folders, times, hashes and vectors, got {len(folders)}, {len(times)}, "
            f"{len(phashes)} and {len(unit)}"
        )
    if any(phash is not None and len(phash) != 8 for phash in phashes):
        raise InvalidInputError("a perceptual hash must have 8 bytes")
    labels = np.arange(count, dtype=np.int64)
    stamps = times.astype("datetime64[us]")
    has_time = ~np.isnat(stamps)
    hashed = np.fromiter((phash is not None for phash in phashes), dtype=bool, count=count)
    bits = np.array([int.from_bytes(phash or b"") for phash in phashes], dtype=np.uint64)
    has_camera = np.fromiter((camera is not None for camera in cameras), dtype=bool, count=count)
    is_exposure = has_time & has_camera
    exposures, others = np.flatnonzero(hashed & is_exposure), np.flatnonzero(hashed & ~is_exposure)
    for pairs in _hash_pairs(bits, stamps.astype(np.int64), exposures, others, rules.bits):
        _join_copies(labels, pairs, unit, rules)
    pictures = labels.copy()
    clocks: list[object] = [
        folder if camera is None else camera for camera, folder in zip(cameras, folders, strict=True)
    ]
    has_clock = np.fromiter((clock is not None for clock in clocks), dtype=bool, count=count)
    _join_sequences(labels, np.flatnonzero(has_time & has_clock), clocks, stamps.astype(np.int64), rules)
    return pictures, labels


def _join_sequences(
    labels: NDArray[np.int64],
    timed: NDArray[np.int64],
    clocks: Sequence[object],
    stamps: NDArray[np.int64],
    rules: GroupRules,
) -> None:
    """Join the photos `timed`, by clock and stamp in microseconds, to sequences."""
    numbers: dict[object, int] = {}
    clock = np.fromiter(
        (numbers.setdefault(clocks[each], len(numbers)) for each in timed), np.int64, len(timed)
    )
    order = np.lexsort((stamps[timed], clock))
    photos, clock, at = timed[order], clock[order], stamps[timed][order]
    gap, longest = round(rules.gap_s * 1e6), round(rules.longest_s * 1e6)
    breaks = np.flatnonzero((np.diff(clock) != 0) | (np.diff(at) > gap)) + 1
    pending = list(itertools.pairwise([0, *breaks.tolist(), len(photos)]))
    starts = np.zeros(len(photos), dtype=np.int64)
    while pending:
        start, end = pending.pop()
        if start < end and at[end - 1] - at[start] > longest:
            cut = start + _widest(np.diff(at[start:end])) + 1
            pending += [(start, cut), (cut, end)]
        else:
            starts[start:end] = start
    join_groups(labels, photos, photos[starts])


def _widest(gaps: NDArray[np.int64]) -> int:
    """Return the widest gap; of equal ones, the first of those nearest to the middle."""
    widest = np.flatnonzero(gaps == gaps.max())
    return int(widest[np.argmin(np.abs(2 * widest - (len(gaps) - 1)))])


def _hash_pairs(
    bits: NDArray[np.uint64],
    stamps: NDArray[np.int64],
    exposures: NDArray[np.int64],
    others: NDArray[np.int64],
    most: int,
) -> Iterator[Pairs]:
    """Yield pairs of photos that may be copies, by hash and time; some come more than once."""
    # Two exposures: only within one second.
    seconds = stamps // _SECOND_US
    in_time = exposures[np.argsort(seconds[exposures], kind="stable")]
    at = seconds[in_time]
    ends = np.searchsorted(at, at, side="right")
    for left, right in _expanded(np.arange(len(at)), np.arange(1, len(at) + 1), ends):
        i, j = in_time[left], in_time[right]
        differing = np.minimum(differing_bits(bits[i], bits[j]), differing_bits(bits[i] ^ MIRROR, bits[j]))
        near = differing <= most
        yield i[near], j[near], differing[near]
    for left_bits in (bits[others], bits[others] ^ MIRROR):
        for partners in (others, exposures):
            for left, right, differing in near_hashes(left_bits, bits[partners], most):
                yield others[left], partners[right], differing


Band = tuple[NDArray[np.int64], NDArray[np.uint64], NDArray[np.int64]]
"""Indices of hashes in the order of one band of their bits, these hashes, and where each value begins."""


def hash_bands(hashes: NDArray[np.uint64]) -> tuple[Band, ...]:
    """Return hashes as `near_hashes` looks them up, for those that are asked about often."""
    found = []
    for band in range(_BANDS):
        keys = _band(hashes, band)
        # NumPy sorts 16 bits by counting them.
        order = np.argsort(keys.astype(np.uint16), kind="stable")
        starts = np.zeros((1 << _BAND_BITS) + 1, dtype=np.int64)
        np.cumsum(np.bincount(keys, minlength=1 << _BAND_BITS), out=starts[1:])
        found.append((order, hashes[order], starts))
    return tuple(found)


def near_hashes(
    left: NDArray[np.uint64], right: NDArray[np.uint64], bits: int, bands: tuple[Band, ...] | None = None
) -> Iterator[Pairs]:
    """Find every pair of a left and a right hash that differ in few bits, exactly, in parts of bounded size.

    The 64 bits are cut into 4 bands. With `bits = 4 r + a`, a pair within `bits` differs in at most r bits in
    one of the first a + 1 bands, or in at most r - 1 in one of the others; so only hashes whose band is one
    of the few with that many flipped bits are compared.

    Source: M. Norouzi, A. Punjani, D. J. Fleet, "Fast Search in Hamming Space with Multi-Index Hashing",
    CVPR 2012, section 3.

    Args:
        left: (L,) uint64.
        right: (R,) uint64.
        bits: How many bits may differ, 0..16.
        bands: What `hash_bands` gave for `right`, if it was kept.

    Yields:
        Indices in `left`, indices in `right`, differing bits: (n,) int64 each. A pair that is near in several
        bands comes several times.
    """
    if not len(left) or not len(right):
        return
    radius, rest = divmod(bits, _BANDS)
    for band, (order, sorted_right, starts) in enumerate(hash_bands(right) if bands is None else bands):
        wanted = _band(left, band)
        for flips in range(radius + (band <= rest)):
            for flipped in itertools.combinations(range(_BAND_BITS), flips):
                key = wanted ^ sum(1 << bit for bit in flipped)
                for i, j in _expanded(np.arange(len(left)), starts[key], starts[key + 1]):
                    differing = differing_bits(left[i], sorted_right[j])
                    near = differing <= bits
                    yield i[near], order[j[near]], differing[near]


def _band(hashes: NDArray[np.uint64], band: int) -> NDArray[np.int64]:
    mask = np.uint64((1 << _BAND_BITS) - 1)
    return ((hashes >> np.uint64(band * _BAND_BITS)) & mask).astype(np.int64)


def _expanded(
    rows: NDArray[np.int64], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield pairs of each row with every number from its start to before its end, some `_PAIRS` at a time."""
    some = ends > starts
    rows, starts, lengths = rows[some], starts[some], (ends - starts)[some]
    upto = np.cumsum(lengths)
    first = 0
    while first < len(rows):
        before = int(upto[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(upto, before + _PAIRS, side="right")))
        part = slice(first, last)
        offsets = starts[part] - (upto[part] - lengths[part] - before)
        numbers = np.arange(int(upto[last - 1]) - before) + np.repeat(offsets, lengths[part])
        yield np.repeat(rows[part], lengths[part]), numbers
        first = last


def differing_bits(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Count differing bits: the ones of the exclusive or, summed in pairs, fours, bytes and over all bytes."""
    ones = left ^ right
    ones = ones - ((ones >> np.uint64(1)) & np.uint64(0x5555555555555555))
    ones = (ones & np.uint64(0x3333333333333333)) + ((ones >> np.uint64(2)) & np.uint64(0x3333333333333333))
    ones = (ones + (ones >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return ((ones * np.uint64(0x0101010101010101)) >> np.uint64(56)).astype(np.int64)


def _join_copies(
    labels: NDArray[np.int64], pairs: Pairs, unit: NDArray[np.float32], rules: GroupRules
) -> None:
    left, right, differing = pairs
    same = differing <= rules.same_bits
    join_groups(labels, left[same], right[same])
    doubtful = ~same & (labels[left] != labels[right])
    left, right = left[doubtful], right[doubtful]
    for start in range(0, len(left), _VECTOR_PAIRS):
        i, j = left[start : start + _VECTOR_PAIRS], right[start : start + _VECTOR_PAIRS]
        alike = np.einsum("ij,ij->i", unit[i], unit[j], dtype=np.float64) >= rules.min_cosine
        join_groups(labels, i[alike], j[alike])


def join_groups(labels: NDArray[np.int64], left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
    """Join the groups of each pair, in place. The label of a group is its smallest member, before and after."""
    while True:
        a, b = labels[left], labels[right]
        apart = a != b
        if not apart.any():
            return
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        # The larger of two labels gets the smallest that it meets, then everybody the label of its label.
        np.minimum.at(labels, np.maximum(a, b), np.minimum(a, b))
        while True:
            further = labels[labels]
            if (further == labels).all():
                break
            labels[:] = further
