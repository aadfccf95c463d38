"""Copies among many photos: candidates against all pairs, verification, and groups without chains."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.images.decode import perceptual_hash
from birdsearch.search.dedup.copies import (
    CopyPair,
    CopyRules,
    candidate_pairs,
    copy_groups,
    missing_pairs,
    verify_pairs,
)
from birdsearch.search.dedup.fingerprint import Fingerprint, fingerprint
from birdsearch.search.query.turned_hashes import turned_hashes


def picture(seed: int, size: tuple[int, int] = (240, 180)) -> Image.Image:
    rng = np.random.default_rng(seed)
    total = np.zeros((size[1], size[0], 3), np.float32)
    for cells in (3, 7, 15, 31):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32) / cells**0.4
    return Image.fromarray((255 * (total - total.min()) / np.ptp(total)).astype(np.uint8))


def hash_of(image: Image.Image) -> int:
    return int.from_bytes(perceptual_hash(image))


def print_of(image: Image.Image) -> Fingerprint:
    return fingerprint(np.asarray(image.resize((256, 256), Image.Resampling.BICUBIC)), *image.size)


def pair(first: int, second: int, similarity: float = 0.9) -> CopyPair:
    return CopyPair(first, second, similarity, "", "same picture")


def random_photos(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.uint64], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    unit = normalised(rng.normal(size=(count, 6)).astype(np.float32))
    hashes = rng.integers(1, 1 << 63, count, dtype=np.uint64)
    for _ in range(count // 2):
        one, other = rng.integers(0, count, 2)
        flips = rng.integers(0, 64, rng.integers(0, 16))
        hashes[other] = hashes[one] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=0)
    return unit, hashes, rng.random(count) < 0.9


# -- candidates ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_candidates_are_the_pairs_that_either_sign_finds_alike(seed: int) -> None:
    unit, hashes, has_hash = random_photos(seed, 60)
    unit[::9] = 0
    rules = CopyRules(min_cosine=0.85, min_mutual_cosine=0.6, neighbours=59)
    found = candidate_pairs(unit, hashes, has_hash, rules)
    cosines = unit.astype(np.float64) @ unit.T.astype(np.float64)
    others = np.where(np.eye(60, dtype=bool) | ~unit.any(axis=1), -2.0, cosines)
    nearest = others.argmax(axis=1)
    wanted = [
        (i, j)
        for i, j in itertools.combinations(range(60), 2)
        if cosines[i, j] >= 0.85
        or (nearest[i] == j and nearest[j] == i and cosines[i, j] >= 0.6)
        or (
            has_hash[i]
            and has_hash[j]
            and hashes[i]
            and hashes[j]
            and int(hashes[i] ^ hashes[j]).bit_count() <= rules.bits
        )
    ]
    assert found.tolist() == [list(each) for each in wanted], f"seed {seed}"


def test_of_a_crowd_each_photo_keeps_its_nearest() -> None:
    rng = np.random.default_rng(4)
    # Two hundred frames of one scene, and one true copy of the last.
    flips = np.uint64(1) << rng.integers(0, 64, (200, 4)).astype(np.uint64)
    hashes = np.uint64(0x0F0F33335555AAAA) ^ np.bitwise_xor.reduce(flips, axis=1)
    hashes = np.append(hashes, hashes[-1])
    unit = np.zeros((201, 4), np.float32)
    found = candidate_pairs(unit, hashes, np.ones(201, bool), CopyRules(neighbours=5))
    assert [199, 200] in found.tolist()
    assert len(found) <= 5 * 201
    assert (found[:, 0] < found[:, 1]).all()


def test_flat_pictures_are_no_candidates_by_their_hash() -> None:
    flat = hash_of(Image.new("RGB", (64, 64), (90, 90, 90)))
    assert flat == 0
    hashes = np.array([flat, flat, flat], np.uint64)
    assert not len(candidate_pairs(np.zeros((3, 2), np.float32), hashes, np.ones(3, bool)))


@pytest.mark.parametrize("count", [0, 1])
def test_none_or_one_photo_has_no_candidates(count: int) -> None:
    found = candidate_pairs(np.ones((count, 3), np.float32), np.ones(count, np.uint64), np.ones(count, bool))
    assert found.shape == (0, 2)
    assert verify_pairs(found, lambda _: None) == []
    assert copy_groups(count, []) == []


def test_hashes_of_turned_pictures_are_foreseen() -> None:
    turns: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: image,
        ImageOps.mirror,
        ImageOps.flip,
        lambda image: image.transpose(Image.Transpose.ROTATE_180),
        lambda image: image.transpose(Image.Transpose.TRANSPOSE),
        lambda image: image.transpose(Image.Transpose.ROTATE_270),
        lambda image: image.transpose(Image.Transpose.ROTATE_90),
        lambda image: image.transpose(Image.Transpose.TRANSVERSE),
    ]
    for seed in range(6):
        image = picture(seed)
        foreseen = turned_hashes(np.array([hash_of(image)], np.uint64))[:, 0]
        assert len(set(foreseen.tolist())) == 8
        for number, turn in enumerate(turns):
            differing = int(foreseen[number] ^ np.uint64(hash_of(turn(image)))).bit_count()
            assert differing <= 8, (seed, number)
    rules = CopyRules(rotations=True)
    hashes = np.array([hash_of(turn(picture(9))) for turn in turns], np.uint64)
    empty = np.zeros((8, 2), np.float32)
    assert len(candidate_pairs(empty, hashes, np.ones(8, bool), rules)) == 28
    assert len(candidate_pairs(empty, hashes, np.ones(8, bool))) < 28


def test_numbers_that_do_not_match_and_rules_without_sense_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="3 vectors need as many hashes, got 2 and 3"):
        candidate_pairs(np.ones((3, 2), np.float32), np.ones(2, np.uint64), np.ones(3, bool))
    for values, message in (
        ({"min_similarity": 1.5}, "min_similarity is 1.5"),
        ({"bits": 17}, "bits is 17"),
        ({"min_cosine": 2.0}, "min_cosine is 2.0"),
        ({"min_mutual_cosine": -2.0}, "min_mutual_cosine is -2.0"),
        ({"neighbours": 0}, "neighbours is 0"),
        ({"residual": 0.0}, "residual 0.0"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            CopyRules(**values)


# -- verification --------------------------------------------------------------------------------------------


def test_only_pairs_whose_pictures_agree_are_copies() -> None:
    images = [picture(1), picture(1).resize((120, 90)), picture(2), ImageOps.mirror(picture(1))]
    prints = [print_of(image) for image in images]
    pairs = np.array(list(itertools.combinations(range(4), 2)))
    told: list[tuple[int, int]] = []
    plain = verify_pairs(pairs, lambda place: prints[place], None, lambda *each: told.append(each))
    assert [(one.first, one.second) for one in plain] == [(0, 1)]
    assert told[-1] == (6, 6)
    turned = verify_pairs(pairs, lambda place: prints[place], CopyRules(rotations=True))
    assert [(one.first, one.second, one.turn) for one in turned] == [
        (0, 1, ""),
        (0, 3, "mirror"),
        (1, 3, "mirror"),
    ]
    assert verify_pairs(pairs, lambda place: prints[place], CopyRules(min_similarity=0.9999)) == []
    # A photo whose picture nobody can read is a copy of nothing.
    assert verify_pairs(pairs, lambda place: prints[place] if place else None) == []


# -- groups --------------------------------------------------------------------------------------------------


def cliques(count: int, pairs: list[CopyPair]) -> list[tuple[int, ...]]:
    """The rule read aloud, on sets."""
    copies = {(one.first, one.second) for one in pairs}
    groups = [{place} for place in range(count)]
    for one in sorted(pairs, key=lambda each: (-each.similarity, each.first, each.second)):
        a = next(group for group in groups if one.first in group)
        b = next(group for group in groups if one.second in group)
        if a is not b and all((min(i, j), max(i, j)) in copies for i in a for j in b):
            groups.remove(b)
            a |= b
    return sorted(tuple(sorted(group)) for group in groups if len(group) > 1)


@pytest.mark.parametrize("seed", range(20))
def test_every_photo_of_a_group_is_a_copy_of_every_other(seed: int) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(2, 14))
    pairs = [
        pair(i, j, float(rng.choice([0.6, 0.7, 0.8, 0.9])))
        for i, j in itertools.combinations(range(count), 2)
        if rng.random() < 0.5
    ]
    found = copy_groups(count, [pairs[place] for place in rng.permutation(len(pairs))])
    assert found == cliques(count, pairs), f"seed {seed}"
    known = {(one.first, one.second) for one in pairs}
    assert all(set(itertools.combinations(group, 2)) <= known for group in found)


def test_a_chain_is_no_group() -> None:
    chain = [pair(0, 1, 0.7), pair(1, 2, 0.9), pair(2, 3, 0.7)]
    assert copy_groups(5, chain) == [(1, 2)]
    assert missing_pairs(5, chain).tolist() == [[0, 2], [0, 3], [1, 3]]
    whole = [*chain, pair(0, 2), pair(0, 3), pair(1, 3)]
    assert copy_groups(5, whole) == [(0, 1, 2, 3)]
    assert missing_pairs(5, whole).shape == (0, 2)


def test_what_a_person_parted_is_never_of_one_group() -> None:
    whole = [pair(i, j) for i, j in itertools.combinations(range(4), 2)]
    for distinct in itertools.combinations(range(4), 2):
        for group in copy_groups(4, whole, [distinct]):
            assert not set(distinct) <= set(group)


def test_too_large_a_crowd_is_not_completed() -> None:
    chain = [pair(place, place + 1) for place in range(30)]
    assert len(missing_pairs(31, chain)) == 31 * 30 // 2 - 30
    assert missing_pairs(31, chain, most=30).shape == (0, 2)


def test_places_that_do_not_exist_are_refused() -> None:
    for wrong in (pair(1, 1), pair(2, 1), pair(0, 3), pair(-1, 1)):
        with pytest.raises(InvalidInputError, match="rows below 3"):
            copy_groups(3, [wrong])
