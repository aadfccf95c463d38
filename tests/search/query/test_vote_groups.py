"""Groups of photos that are no independent evidence about each other."""

from __future__ import annotations

import itertools
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.search.query import vote_groups as vote_groups_module
from birdsearch.search.query.vote_groups import GroupRules, groups_of, kinship, near_hashes, vote_groups

if TYPE_CHECKING:
    from birdsearch.model.inference import Model

Photos = tuple[
    list[str | None], list[bytes | None], NDArray[np.datetime64], list[bytes | None], NDArray[np.float32]
]

MIRROR = 0xAAAAAAAAAAAAAAAA
HASH = bytes.fromhex("f0e1d2c3b4a59687")


def other_hash(*bits: int, of: bytes = HASH, mirrored: bool = False) -> bytes:
    value = int.from_bytes(of) ^ (MIRROR if mirrored else 0)
    for bit in bits:
        value ^= 1 << bit
    return value.to_bytes(8)


def times(*texts: str) -> NDArray[np.datetime64]:
    return np.array(texts, dtype="datetime64[us]")


def seconds(*values: float) -> NDArray[np.datetime64]:
    start = np.datetime64("2024-05-01T06:00:00", "us")
    return np.array([start + np.timedelta64(round(value * 1e6), "us") for value in values])


def by_time(
    at: NDArray[np.datetime64],
    cameras: Sequence[str | None] | None = None,
    folders: Sequence[bytes | None] | None = None,
    rules: GroupRules | None = None,
) -> list[int]:
    count = len(at)
    found: list[int] = groups_of(
        cameras or ["camera"] * count,
        folders or [None] * count,
        at,
        [None] * count,
        np.zeros((count, 4), np.float32),
        rules or GroupRules(),
    ).tolist()
    return found


def by_likeness(
    phashes: Sequence[bytes | None],
    cosine: float,
    at: NDArray[np.datetime64] | None = None,
    cameras: Sequence[str | None] | None = None,
    rules: GroupRules | None = None,
) -> list[int]:
    """Groups of two photos with a cosine."""
    unit = np.array([[1.0, 0.0], [cosine, np.sqrt(1 - cosine**2)]], np.float32)
    found: list[int] = groups_of(
        cameras or [None, None],
        [None, None],
        times("NaT", "NaT") if at is None else at,
        phashes,
        unit,
        rules or GroupRules(),
    ).tolist()
    return found


# -- an oracle that looks at every pair ------------------------------------------------------------------


def slow_groups(
    cameras: Sequence[str | None],
    folders: Sequence[bytes | None],
    at: NDArray[np.datetime64],
    phashes: Sequence[bytes | None],
    unit: NDArray[np.float32],
    rules: GroupRules,
) -> list[int]:
    count = len(cameras)
    linked: list[set[int]] = [{place} for place in range(count)]

    def link(i: int, j: int) -> None:
        merged = linked[i] | linked[j]
        for each in merged:
            linked[each] = merged

    def split(run: list[int]) -> None:
        moments = [at[each].astype(datetime).timestamp() for each in run]
        if moments[-1] - moments[0] > rules.longest_s:
            gaps = [b - a for a, b in itertools.pairwise(moments)]
            middle = (len(gaps) - 1) / 2
            cut = min(range(len(gaps)), key=lambda k: (-gaps[k], abs(k - middle), k)) + 1
            split(run[:cut])
            split(run[cut:])
        else:
            for each in run:
                link(run[0], each)

    runs: dict[object, list[int]] = defaultdict(list)
    for place in range(count):
        clock = cameras[place] if cameras[place] is not None else folders[place]
        if clock is not None and not np.isnat(at[place]):
            runs[clock].append(place)
    for run in runs.values():
        run.sort(key=lambda place: at[place])
        part = [run[0]]
        for place in run[1:]:
            if (at[place] - at[part[-1]]) / np.timedelta64(1, "s") > rules.gap_s:
                split(part)
                part = []
            part.append(place)
        split(part)
    for i, j in itertools.combinations(range(count), 2):
        a, b = phashes[i], phashes[j]
        if a is None or b is None:
            continue
        are_exposures = all(cameras[each] is not None and not np.isnat(at[each]) for each in (i, j))
        if are_exposures and at[i].astype("datetime64[s]") != at[j].astype("datetime64[s]"):
            continue
        ones = int.from_bytes(a) ^ int.from_bytes(b)
        differing = min(ones.bit_count(), (ones ^ MIRROR).bit_count())
        cosine = float(unit[i].astype(np.float64) @ unit[j].astype(np.float64))
        if differing <= rules.same_bits or (differing <= rules.bits and cosine >= rules.min_cosine):
            link(i, j)
    return [min(each) for each in linked]


def made_up(seed: int, count: int = 160) -> Photos:
    rng = np.random.default_rng(seed)
    cameras = [None if rng.random() < 0.4 else f"camera {rng.integers(3)}" for _ in range(count)]
    folders = [None if rng.random() < 0.3 else b"folder %d" % rng.integers(3) for _ in range(count)]
    at = seconds(*rng.choice([0.5, 40.0, 290.0], count).cumsum()[rng.permutation(count)].tolist())
    at[rng.random(count) < 0.3] = np.datetime64("NaT")
    # Equal times, and hashes around a few pictures: some near, some a little too far, some mirrored.
    at[rng.integers(count, size=20)] = at[rng.integers(count, size=20)]
    pictures = [rng.bytes(8) for _ in range(40)]
    phashes = [
        None
        if rng.random() < 0.1
        else other_hash(
            *rng.choice(64, int(rng.integers(8)), replace=False).tolist(),
            of=pictures[int(rng.integers(40))],
            mirrored=bool(rng.random() < 0.2),
        )
        for _ in range(count)
    ]
    unit = rng.normal(size=(count, 2)).astype(np.float32)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    unit[rng.random(count) < 0.1] = 0.0
    return cameras, folders, at, phashes, unit


@pytest.mark.parametrize("seed", range(6))
def test_groups_are_those_of_looking_at_every_pair(seed: int) -> None:
    photos = made_up(seed)
    for rules in (GroupRules(), GroupRules(gap_s=60, longest_s=200, same_bits=0, bits=7, min_cosine=0.5)):
        found = groups_of(*photos, rules).tolist()
        assert found == slow_groups(*photos, rules)
        assert 1 < len(set(found)) < len(found)


def test_groups_do_not_depend_on_the_order_of_photos() -> None:
    cameras, folders, at, phashes, unit = made_up(7)
    found = groups_of(cameras, folders, at, phashes, unit)
    expected = {frozenset(np.flatnonzero(found == label).tolist()) for label in set(found.tolist())}
    order = np.random.default_rng(1).permutation(len(found))
    shuffled = groups_of(
        [cameras[each] for each in order],
        [folders[each] for each in order],
        at[order],
        [phashes[each] for each in order],
        unit[order],
    )
    assert {
        frozenset(order[np.flatnonzero(shuffled == label)].tolist()) for label in set(shuffled.tolist())
    } == expected


def test_groups_do_not_depend_on_how_many_pairs_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    photos = made_up(8)
    expected = groups_of(*photos).tolist()
    monkeypatch.setattr(vote_groups_module, "_PAIRS", 3)
    monkeypatch.setattr(vote_groups_module, "_VECTOR_PAIRS", 2)
    assert groups_of(*photos).tolist() == expected


@pytest.mark.parametrize("bits", [0, 1, 3, 4, 6, 10])
def test_near_hashes_finds_every_near_pair(bits: int) -> None:
    rng = np.random.default_rng(bits)
    left = rng.integers(0, 2**63, 60, dtype=np.uint64) * np.uint64(2)
    flips = [rng.choice(64, int(rng.integers(bits + 3)), replace=False).tolist() for _ in left]
    right = np.array(
        [
            int.from_bytes(other_hash(*flip, of=int(each).to_bytes(8)))
            for each, flip in zip(left, flips, strict=True)
        ],
        dtype=np.uint64,
    )
    expected = {
        (i, j, (int(a) ^ int(b)).bit_count())
        for i, a in enumerate(left)
        for j, b in enumerate(right)
        if (int(a) ^ int(b)).bit_count() <= bits
    }
    found = {
        each
        for part in near_hashes(left, right, bits)
        for each in zip(*(x.tolist() for x in part), strict=True)
    }
    assert found == expected
    assert expected


# -- events ----------------------------------------------------------------------------------------------


def test_frames_with_the_gap_or_less_between_them_are_an_event() -> None:
    assert by_time(seconds(0, 300, 600, 900.000001, 1200)) == [0, 0, 0, 3, 3]


def test_an_event_that_goes_on_is_cut_at_its_widest_gap_and_not_into_a_burst() -> None:
    # An hour is over within the second burst.
    bursts = [0.0, 1750.0, 3599.5, 3599.8, 3600.1, 3600.4, 5000.0]
    rules = GroupRules(gap_s=2000)
    assert by_time(seconds(*bursts), rules=rules) == [0, 0, 2, 2, 2, 2, 2]


def test_no_event_lasts_longer_than_asked() -> None:
    at = seconds(*np.arange(0, 7200, 10).tolist())
    found = np.array(by_time(at, rules=GroupRules(longest_s=1000)))
    spans = [np.ptp(at[found == label]) / np.timedelta64(1, "s") for label in set(found.tolist())]
    assert max(spans) <= 1000
    # Equal gaps are cut in the middle: no crumbs.
    assert len(spans) == 8


def test_frames_of_one_moment_are_never_parted() -> None:
    assert by_time(seconds(0, 10, 10, 20), rules=GroupRules(longest_s=0)) == [0, 1, 1, 3]


def test_cameras_of_one_model_are_told_apart(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(dim=2)
    views = [
        catalog.photo(
            [np.array([1.0, place])],
            captured_at=f"2024-05-01T06:00:0{place}",
            camera="Norvik D50",
            serial=serial,
        )[1][0]
        for place, serial in enumerate(["1", "2", None, "1"])
    ]
    assert vote_groups(catalog.store, 1, views).tolist() == [views[0], views[1], views[2], views[0]]


def test_folders_stand_for_cameras_where_the_camera_is_unknown() -> None:
    at = seconds(0, 1, 2, 3, 4)
    assert by_time(at, ["a", None, None, None, None], [b"x", b"x", b"x", b"y", None]) == [0, 1, 1, 3, 4]


def test_photos_without_time_and_copies_are_groups_of_their_own() -> None:
    assert by_time(times("NaT", "NaT", "2024-05-01T06:00:00")) == [0, 1, 2]


# -- copies ----------------------------------------------------------------------------------------------


def test_a_hash_that_is_nearly_the_same_makes_a_copy_whatever_the_vectors_say() -> None:
    assert by_likeness([HASH, other_hash(1, 20, 40, 60)], cosine=0.1) == [0, 0]
    assert by_likeness([HASH, other_hash(1, 20, 40, 60, 61)], cosine=0.1) == [0, 1]


def test_a_hash_that_is_near_makes_a_copy_if_the_vectors_are_alike() -> None:
    ten = other_hash(*range(0, 60, 6))
    assert by_likeness([HASH, ten], cosine=0.95) == [0, 0]
    assert by_likeness([HASH, ten], cosine=0.85) == [0, 1]
    assert by_likeness([HASH, ten], cosine=0.85, rules=GroupRules(min_cosine=0.8)) == [0, 0]
    assert by_likeness([HASH, other_hash(*range(0, 60, 6), 63)], cosine=1.0) == [0, 1]


def test_a_mirrored_picture_is_a_copy() -> None:
    assert by_likeness([HASH, other_hash(3, 9, mirrored=True)], cosine=0.5) == [0, 0]
    one_second = times("2024-05-01T06:00:00", "2024-05-01T06:00:00")
    assert by_likeness([HASH, other_hash(3, mirrored=True)], 0.5, one_second, ["a", "b"]) == [0, 0]


def test_the_mirrored_hash_is_the_hash_of_the_mirrored_picture() -> None:
    from PIL import Image, ImageOps

    from birdsearch.model.images.decode import perceptual_hash

    noise = np.random.default_rng(3).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((240, 180), Image.Resampling.BICUBIC)
    ones = int.from_bytes(perceptual_hash(picture)) ^ int.from_bytes(
        perceptual_hash(ImageOps.mirror(picture))
    )
    assert (ones ^ MIRROR).bit_count() <= 4
    assert ones.bit_count() > 20


def test_a_copy_that_lost_its_time_joins_the_event_of_its_original() -> None:
    found = groups_of(
        ["a", "a", None],
        [None] * 3,
        times("2024-05-01T06:00:00", "2024-05-01T06:00:09", "NaT"),
        [bytes(8), HASH, HASH],
        np.eye(3, dtype=np.float32),
    )
    assert found.tolist() == [0, 0, 0]


def test_frames_of_a_camera_that_stands_still_are_no_copies_on_another_day() -> None:
    days = times("2024-05-01T06:00:00", "2024-05-02T06:00:00")
    assert by_likeness([HASH, HASH], 1.0, days, ["trap", "trap"]) == [0, 1]
    assert by_likeness([HASH, HASH], 1.0, days, ["trap", None]) == [0, 0]
    # An editor that drops the serial number and the fraction keeps the second.
    same = times("2024-05-01T06:00:00.75", "2024-05-01T06:00:00")
    assert by_likeness([HASH, HASH], 1.0, same, ["trap 1", "trap"]) == [0, 0]


def test_photos_without_a_hash_have_no_copies() -> None:
    assert by_likeness([None, HASH], 1.0) == [0, 1]
    assert by_likeness([None, None], 1.0) == [0, 1]
    # Nor is an unknown hash that of a flat picture.
    assert by_likeness([None, bytes(8)], 1.0) == [0, 1]


def test_no_photos_have_no_groups() -> None:
    found = groups_of([], [], times(), [], np.zeros((0, 4), np.float32))
    assert found.shape == (0,)
    assert found.dtype == np.int64


def test_rules_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="gap_s is -1"):
        GroupRules(gap_s=-1)
    with pytest.raises(InvalidInputError, match="longest_s is nan"):
        GroupRules(longest_s=float("nan"))
    with pytest.raises(InvalidInputError, match="bits is 17"):
        GroupRules(bits=17)
    with pytest.raises(InvalidInputError, match="same_bits is 11"):
        GroupRules(same_bits=11)
    with pytest.raises(InvalidInputError, match="min_cosine is 2"):
        GroupRules(min_cosine=2)
    with pytest.raises(InvalidInputError, match="8 bytes"):
        groups_of([None], [None], times("NaT"), [b"short"], np.zeros((1, 2), np.float32))
    with pytest.raises(InvalidInputError, match="1 cameras"):
        groups_of([None], [], times("NaT"), [None], np.zeros((1, 2), np.float32))


# -- the catalog -----------------------------------------------------------------------------------------


def test_all_views_of_a_photo_are_one_group_named_by_its_smallest(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(dim=2)
    one, _ = (
        catalog.photo([np.array([1.0, 0.0])] * 3, boxes=[(0, 0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)])[1]
        for _ in range(2)
    )
    # Boxes alone, in falling order, one of them twice.
    assert vote_groups(catalog.store, 1, [one[2], one[1], one[2]]).tolist() == [one[1]] * 3


def test_likeness_is_that_of_whole_frames_though_boxes_are_asked_for(
    make_catalog: Callable[..., Any],
) -> None:
    catalog = make_catalog(dim=2)
    near = other_hash(*range(8))
    boxes = [(0.0, 0.0, 0.5, 0.5)]
    first, second, third = (
        catalog.photo([np.array(whole), np.array([1.0, 0.0])], boxes=boxes, phash=phash)[1][1]
        for whole, phash in (((1.0, 0.0), HASH), ((5.0, 0.1), near), ((0.0, 1.0), HASH[::-1]))
    )
    assert vote_groups(catalog.store, 1, [first, second, third]).tolist() == [first, first, third]
    # No vectors of another model: nothing tells that the pictures are alike.
    assert vote_groups(catalog.store, 2, [first, second, third]).tolist() == [first, second, third]


def test_a_damaged_vector_is_like_no_other(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(dim=2)
    views = [
        catalog.photo([np.array(vector)], phash=other_hash(*bits))[1][0]
        for vector, bits in (((1.0, 0.0), ()), ((np.inf, 0.0), range(8)), ((0.0, 0.0), range(8, 16)))
    ]
    with catalog.store.writing() as connection:
        connection.execute(
            sa.update(schema.embedding).where(schema.embedding.c.view_id == views[2]).values(vector=b"cut")
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert vote_groups(catalog.store, 1, views).tolist() == views


def test_the_folder_of_a_photo_is_that_of_its_first_path(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(dim=2)
    at = "2024-05-01T06:00:00"
    files = [
        [(b"/b", b"x/1.jpg", "present"), (b"/a", b"y/1.jpg", "missing")],
        [(b"/a", b"y/2.jpg", "present")],
        [(b"/b", b"x/3.jpg", "present")],
        [(b"/a", b"y/4.jpg", "present"), (b"/b", b"x/4.jpg", "present")],
    ]
    views = [catalog.photo([np.ones(2)], each, captured_at=at)[1][0] for each in files]
    assert vote_groups(catalog.store, 1, views).tolist() == [views[0], views[0], views[2], views[0]]


def test_only_the_views_that_are_asked_for_count(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(dim=2)
    first, middle, last = (
        catalog.photo([np.ones(2)], captured_at=f"2024-05-01T06:{minute}:00", camera="a")[1][0]
        for minute in ("00", "04", "08")
    )
    assert vote_groups(catalog.store, 1, [last, middle, first]).tolist() == [first] * 3
    assert vote_groups(catalog.store, 1, [last, first]).tolist() == [last, first]
    assert vote_groups(catalog.store, 1, [last, first], GroupRules(gap_s=480)).tolist() == [first] * 2
    assert vote_groups(catalog.store, 1, []).tolist() == []


def test_a_view_that_is_not_in_the_catalog_is_refused(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(dim=2)
    _, (view,) = catalog.photo([np.ones(2)])
    with pytest.raises(InvalidInputError, match=rf"1 of 2 views are not in the catalog, such as {view + 1}"):
        vote_groups(catalog.store, 1, [view, view + 1])


def test_bursts_events_and_copies_of_an_archive_share_the_group_of_their_original(
    tmp_path: Path, tiny_model: Model
) -> None:
    from birdsearch import Catalog
    from birdsearch.data.synthetic import read_truth, write_archive

    archive = tmp_path / "archive"
    write_archive(archive, seed=3, photos=48, size=256, workers=1)
    with Catalog.open(tmp_path / "catalog") as catalog:
        catalog.index([archive], model=tiny_model, workers=1)
        file, view = schema.file.c, schema.view.c
        with catalog.store.reading() as connection:
            views = {
                row.path.decode(): row.id
                for row in connection.execute(
                    sa.select(file.path, view.id).join(schema.view, view.photo_id == file.photo_id)
                )
            }
        ids = list(views.values())
        found = vote_groups(catalog.store, 1, ids)
    group = dict(zip(ids, found.tolist(), strict=True))
    truth = [each for each in read_truth(archive) if each.path in views]
    copies = [each for each in truth if each.kind in ("copy", "near-copy")]
    assert {each.edit for each in copies} >= {"mirror", "grey", "messenger", "crop-90"}
    for each in copies:
        assert group[views[each.path]] == group[views[each.copy_of]], each.path
    frames = [each for each in truth if each.kind in ("photo", "empty")]
    for kind in ("burst", "event"):
        members = defaultdict(set)
        for each in frames:
            members[getattr(each, kind)].add(group[views[each.path]])
        members.pop("", None)
        assert len(members) > 3
        assert all(len(labels) == 1 for labels in members.values())
    # Nothing is joined across days or cameras.
    together = defaultdict(set)
    for each in frames:
        together[group[views[each.path]]].add((each.camera, each.captured_at[:10]))
    assert all(len(places) == 1 for places in together.values())
    assert len(together) > 10


def test_copies_are_one_picture_and_a_burst_is_not(make_catalog: Any) -> None:
    catalog = make_catalog(4)
    one = np.eye(4, dtype=np.float32)
    facts = [
        ("06:30:00", b"A" * 8),
        ("06:30:00", b"A" * 8),
        ("06:30:05", b"z" * 8),
    ]
    for place, (at, phash) in enumerate(facts):
        catalog.photo([one[place]], camera="Z 9", captured_at=f"2023-05-01T{at}", phash=phash)
    found = kinship(catalog.store, catalog.model_id, [1, 2, 3])
    assert found.pictures.tolist() == [1, 1, 3]
    assert found.groups.tolist() == [1, 1, 1]
    assert found.first_of(["owl", "owl", "owl"]).tolist() == [0, 2]
    # Copies that bear two names may show two birds.
    assert found.first_of(["owl", "crow", "owl"]).tolist() == [0, 1, 2]
