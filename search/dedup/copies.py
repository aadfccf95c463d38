"""Copies of one picture: candidates, their verification, and groups.

A candidate is a pair that either sign finds alike: the perceptual hash, which re-encoding, scaling, grey and tone
leave as it is, or the embedding, which a crop or a border leaves near. Neither is trusted: each candidate is
verified on the pictures themselves (see `birdsearch.search.dedup.fingerprint`).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.dedup.alignment import Prepared
from birdsearch.search.dedup.fingerprint import Fingerprint, compare, prepared
from birdsearch.search.query.knn_graph import knn_graph, near_pairs
from birdsearch.search.query.turned_hashes import turned_hashes
from birdsearch.search.query.vote_groups import join_groups, near_hashes

__all__ = [
    "CopyPair",
    "CopyRules",
    "Progress",
    "candidate_pairs",
    "copy_groups",
    "missing_pairs",
    "verify_pairs",
]

Progress = Callable[[int, int], None]
"""Takes how many pairs have been compared, and how many there are."""

# Pairs that are held before those beyond the nearest of each photo are dropped.
_HELD = 4_000_000
# Prepared pictures that are held: half a megabyte each.
_PREPARED = 512
_TOLD_EVERY = 64
_NO_PAIRS = np.zeros((0, 2), np.int64)


@dataclass(frozen=True, slots=True)
class CopyRules:
    """Rules of what is compared, and what is called a copy.

    Attributes:
        rotations: Also tell copies that were turned by quarters or mirrored.
        min_similarity: Copies are at least so alike, 0..1; from 0.5 on it makes a difference.
        bits: Hashes that differ in at most so many of 64 bits make a candidate.
        min_cosine: Embeddings with at least this cosine make a candidate, -1..1.
        min_mutual_cosine: The same for two photos that are each other's nearest.
        neighbours: So many candidates a photo at most by each sign, the nearest ones: a burst of a hundred frames
            is no reason to compare all with all.
        residual: The greatest difference of a copy; see `Comparison.residual`.
    """

    rotations: bool = False
    min_similarity: float = 0.0
    bits: int = 10
    min_cosine: float = 0.8
    min_mutual_cosine: float = 0.5
    neighbours: int = 24
    residual: float = 0.22

    def __post_init__(self) -> None:
        if not 0 <= self.min_similarity <= 1:
            raise InvalidInputError(f"min_similarity is {self.min_similarity}; it has to be 0 to 1")
        if not 0 <= self.bits <= 16:
            raise InvalidInputError(f"bits is {self.bits}; it has to be 0 to 16 of the hash's 64")
        for name in ("min_cosine", "min_mutual_cosine"):
            if not -1 <= getattr(self, name) <= 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}; it has to be within -1 to 1")
        if self.neighbours < 1 or not self.residual > 0:
            raise InvalidInputError(
                f"neighbours is {self.neighbours} and residual {self.residual}; they have to be at least 1 "
                "and above 0"
            )


@dataclass(frozen=True, slots=True)
class CopyPair:
    """Two photos that show one picture.

    Attributes:
        first: Row of the one photo.
        second: Row of the other, greater.
        similarity: 0.5..1; 1 is the same picture.
        turn: How the first has to be turned to look like the second; one of `TURNS`.
        reason: How the second differs, in short words for a person.
    """

    first: int
    second: int
    similarity: float
    turn: str
    reason: str


def candidate_pairs(
    unit: NDArray[np.float32],
    phashes: NDArray[np.uint64],
    has_hash: NDArray[np.bool_],
    rules: CopyRules | None = None,
) -> NDArray[np.int64]:
    """Return the pairs of photos that may be copies.

    Args:
        unit: (N, C) float32, unit-norm; zeros where there is no vector.
        phashes: (N,) uint64, perceptual hashes.
        has_hash: (N,) bool. The hash of a flat picture is 0 and says nothing.
        rules: What is near enough.

    Returns:
        (P, 2) int64, each pair once, the lesser row first, rising. Memory is bounded by the number of photos
        times `neighbours`, not by how many are alike.

    Raises:
        InvalidInputError: The lengths differ.
    """
    rules = CopyRules() if rules is None else rules
    count = len(unit)
    if not len(phashes) == len(has_hash) == count:
        raise InvalidInputError(
            f"{count} vectors need as many hashes, got {len(phashes)} and {len(has_hash)}"
        )
    found = [_by_hash(phashes, has_hash, rules)]
    usable = np.flatnonzero(unit.any(axis=1))
    if len(usable) > 1:
        graph = knn_graph(np.ascontiguousarray(unit[usable]), min(rules.neighbours, len(usable) - 1))
        left, right, _ = near_pairs(graph, rules.min_cosine)
        found.append(np.stack([usable[left], usable[right]], axis=1))
        # A border or half the light moves a copy far, and yet nothing is nearer to it than its original.
        nearest = graph.neighbours[:, 0]
        mutual = nearest[nearest] == np.arange(len(nearest))
        mutual &= graph.cosines[:, 0] >= rules.min_mutual_cosine
        found.append(np.stack([usable[mutual], usable[nearest[mutual]]], axis=1))
    return _unique(np.concatenate(found), count)


def _by_hash(phashes: NDArray[np.uint64], has_hash: NDArray[np.bool_], rules: CopyRules) -> NDArray[np.int64]:
    rows = np.flatnonzero(has_hash & (phashes != 0))
    hashes = phashes[rows]
    # A turn and its inverse find the same pairs: half of the four quarter turns would do, all are simpler.
    variants = turned_hashes(hashes) if rules.rotations else hashes[None]
    held, size = [np.zeros((0, 3), np.int64)], 0
    for variant in variants:
        for left, right, differing in near_hashes(variant, hashes, rules.bits):
            keep = left != right
            pairs = np.stack([left[keep], right[keep], differing[keep]], axis=1)
            held += [pairs, pairs[:, [1, 0, 2]]]
            size += 2 * len(pairs)
            if size > _HELD:
                held = [_nearest(np.concatenate(held), rules.neighbours)]
                size = len(held[0])
    nearest = _nearest(np.concatenate(held), rules.neighbours)
    return rows[nearest[:, :2]]


def _nearest(rows: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the nearest `most` of each left among (left, right, differing), the first of equally near ones."""
    rows = rows[np.lexsort((rows[:, 2], rows[:, 1], rows[:, 0]))]
    if not len(rows):
        return rows
    # One row a pair: the variant that differs least.
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
    rows = rows[is_first]
    rows = rows[np.lexsort((rows[:, 1], rows[:, 2], rows[:, 0]))]
    starts = np.searchsorted(rows[:, 0], rows[:, 0])
    return rows[np.arange(len(rows)) - starts < most]


def _unique(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    keys = np.unique(pairs.min(axis=1) * max(count, 1) + pairs.max(axis=1)) if len(pairs) else pairs[:, 0]
    return np.stack(np.divmod(keys, max(count, 1)), axis=1)


def verify_pairs(
    pairs: NDArray[np.int64],
    fingerprint_of: Callable[[int], Fingerprint | None],
    rules: CopyRules | None = None,
    progress: Progress | None = None,
) -> list[CopyPair]:
    """Return the candidates that are copies, as their pictures show.

    Args:
        pairs: (P, 2) int64 rows; pairs with one first photo should follow each other, so that its picture is
            prepared once.
        fingerprint_of: The small picture of the photo in a row; None if there is none, and then no copy.
        rules: What is a copy.
        progress: Called with how many pairs have been compared, and how many there are.

    Returns:
        The copies, in the order of the pairs.
    """
    rules = CopyRules() if rules is None else rules
    pictures: OrderedDict[int, Prepared | None] = OrderedDict()

    def picture(row: int) -> Prepared | None:
        if row in pictures:
            pictures.move_to_end(row)
        else:
            found = fingerprint_of(row)
            pictures[row] = None if found is None else prepared(found)
            if len(pictures) > _PREPARED:
                pictures.popitem(last=False)
        return pictures[row]

    copies = []
    for number, (first, second) in enumerate(pairs.tolist(), start=1):
        one, other = picture(first), picture(second)
        if one is not None and other is not None:
            found = compare(one, other, rules.rotations, residual=rules.residual)
            if found.is_copy and found.similarity >= rules.min_similarity:
                copies.append(CopyPair(first, second, found.similarity, found.turn, found.reason))
        if progress is not None and (number % _TOLD_EVERY == 0 or number == len(pairs)):
            progress(number, len(pairs))
    return copies


def missing_pairs(count: int, pairs: Sequence[CopyPair], most: int = 200) -> NDArray[np.int64]:
    """Return the pairs that complete linkage needs and that were not compared: of photos joined by others.

    Args:
        count: How many photos there are.
        pairs: The copies found so far.
        most: Among more photos than that none are listed: what so many joined photos have in common is rarely that
            they are copies, and their pairs would be too many. Their groups are made of what is known.

    Returns:
        (P, 2) int64, the lesser row first, rising.
    """
    known = {(pair.first, pair.second) for pair in pairs}
    rows = [
        (first, second)
        for members in _components(count, pairs)
        if len(members) <= most
        for index, first in enumerate(members)
        for second in members[index + 1 :]
        if (first, second) not in known
    ]
    return np.array(sorted(rows), np.int64) if rows else _NO_PAIRS


def _components(count: int, pairs: Sequence[CopyPair]) -> Iterator[list[int]]:
    """Yield the rows, rising, of each component of at least two that the pairs join."""
    labels = np.arange(count, dtype=np.int64)
    ends = np.array([(pair.first, pair.second) for pair in pairs], np.int64).reshape(-1, 2)
    join_groups(labels, ends[:, 0], ends[:, 1])
    touched = np.unique(ends)
    order = touched[np.argsort(labels[touched], kind="stable")]
    for part in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1):
        if len(part):
            yield part.tolist()


def copy_groups(
    count: int, pairs: Sequence[CopyPair], distinct: Collection[tuple[int, int]] = ()
) -> list[tuple[int, ...]]:
    """Return groups of photos each of which is a copy of every other: complete linkage, no chains.

    Pairs are taken from the most alike to the least; the groups of its two photos are joined if every photo of the
    one is a copy of every photo of the other.

    Args:
        count: How many photos there are.
        pairs: The copies.
        distinct: Pairs, the lesser row first, that are no copies whatever `pairs` says.

    Returns:
        Groups of at least two, each rising, in the order of their first photos. Of equally alike pairs the one with
        the lesser rows is taken first.

    Raises:
        InvalidInputError: A row is not below `count`.
    """
    if any(not 0 <= pair.first < pair.second < count for pair in pairs):
        raise InvalidInputError(f"pairs must be of two different rows below {count}, the lesser first")
    refused = set(distinct)
    copies: dict[int, set[int]] = {}
    kept = [pair for pair in pairs if (pair.first, pair.second) not in refused]
    for pair in kept:
        copies.setdefault(pair.first, set()).add(pair.second)
        copies.setdefault(pair.second, set()).add(pair.first)
    group_of = {row: [row] for row in copies}
    for pair in sorted(kept, key=lambda each: (-each.similarity, each.first, each.second)):
        one, other = group_of[pair.first], group_of[pair.second]
        if one is not other and all(copies[row].issuperset(other) for row in one):
            one += other
            for row in other:
                group_of[row] = one
    found = {id(group): tuple(sorted(group)) for group in group_of.values() if len(group) > 1}
    return sorted(found.values())
