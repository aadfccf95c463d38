"""Of which photos the exact place would tell that of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from birdsearch.search.query.location_privacy.coarsening import coarse
from birdsearch.search.query.location_privacy.reach import (
    COARSE_DEGREES,
    COPY_BITS,
    NO_TIME,
    REACH_S,
    PhotoFacts,
    Reach,
    cells_of,
    standing_cameras,
)

PLACE = (47.1234567, 8.5678912)
HASH = 0x9D3C_51F0_27A6_B84E


def facts(*rows: Mapping[str, object]) -> PhotoFacts:
    """Photos that tell nothing but what is given."""

    def column(name: str, unknown: int) -> NDArray[np.int64]:
        return np.array([row.get(name, unknown) for row in rows], dtype=np.int64)

    degrees = np.array([row.get("place", (np.nan, np.nan)) for row in rows], dtype=np.float64).reshape(-1, 2)
    folders = column("folder", -1)
    return PhotoFacts(
        ids=np.arange(1, len(rows) + 1),
        seconds=column("second", NO_TIME),
        cells=cells_of(degrees[:, 0], degrees[:, 1]),
        cameras=column("camera", -1),
        folder_rows=np.flatnonzero(folders >= 0),
        folders=folders[folders >= 0],
        hashes=np.array([row.get("hash", 0) for row in rows], dtype=np.uint64),
        joined=(column("event", -1), column("sighting", -1)),
        fixed=(column("fixed", -1), column("site", -1)),
        pairs=np.zeros((0, 2), np.int64),
    )


def reaches(one: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """Whether the place of the one tells that of the other; the same either way."""
    reach = Reach(facts(one, other, {}))
    there = reach.reached(np.array([True, False, False]))
    back = reach.reached(np.array([False, True, False]))
    assert there[0]
    assert back[1]
    assert there[1] == back[0]
    assert not there[2]
    return bool(there[1])


def test_a_cell_is_that_of_the_place_that_is_told() -> None:
    rng = np.random.default_rng(5)
    lats, lons = rng.uniform(-90, 90, 500), rng.uniform(-180, 180, 500)
    cells = cells_of(lats, lons)
    told: dict[tuple[float, float], list[int]] = {
        (coarse(lat), coarse(lon) % 360): [] for lat, lon in zip(lats, lons, strict=True)
    }
    for lat, lon, cell in zip(lats, lons, cells.tolist(), strict=True):
        told[coarse(lat), coarse(lon) % 360].append(cell)
    assert all(len(set(some)) == 1 for some in told.values())
    assert len({some[0] for some in told.values()}) == len(told)
    assert (
        cells_of(np.array([5.0, 5.0]), np.array([180.0, -180.0]))
        .tolist()
        .count(cells_of(np.array([5.0]), np.array([180.0]))[0])
        == 2
    )
    assert cells_of(np.array([np.nan]), np.array([3.0])).tolist() == [-1]


@pytest.mark.parametrize(
    ("what", "other", "expected"),
    [
        ("the next frame", {"place": PLACE, "second": 2}, True),
        ("five metres across the border of a cell", {"place": (47.15001, 8.5678), "second": 30}, True),
        ("another camera in that minute", {"place": (47.1235, 8.5679), "second": 40, "camera": 7}, True),
        ("the next morning", {"place": PLACE, "second": REACH_S}, True),
        ("the evening before", {"place": PLACE, "second": -REACH_S}, True),
        ("another day", {"place": PLACE, "second": REACH_S + 1}, False),
        ("two cells away", {"place": (PLACE[0] + 0.2, PLACE[1]), "second": 2}, False),
        ("without a place or a camera", {"second": 2}, False),
        ("without a place, of the camera", {"second": 2, "camera": 1}, True),
        ("without a place, in the folder", {"second": 2, "folder": 3}, True),
        ("without a place, of the camera on another day", {"second": REACH_S + 1, "camera": 1}, False),
        ("without a time, in the folder", {"place": PLACE, "folder": 3}, True),
        ("without a time, in the folder, elsewhere", {"place": (40.0, 8.5), "folder": 3}, False),
        ("without a time, in another folder", {"place": PLACE, "folder": 4}, False),
        ("a copy", {"place": (40.0, 9.0), "hash": HASH}, True),
        (
            "a copy that differs a little",
            {"place": (40.0, 9.0), "hash": HASH ^ 0b11_1111},
            True,
        ),
        ("no copy", {"place": (40.0, 9.0), "hash": HASH ^ 0b111_1111}, False),
        ("of the event", {"place": (40.0, 9.0), "event": 5}, True),
        ("of another event", {"place": (40.0, 9.0), "event": 6}, False),
        ("of the sighting", {"place": (40.0, 9.0), "sighting": 5}, True),
        ("of the site, a month later", {"place": (40.0, 9.0), "second": 10**7, "site": 2}, True),
        ("of another site", {"place": (40.0, 9.0), "second": 10**7, "site": 3}, False),
        (
            "of the camera that stood still, a month later",
            {"place": PLACE, "second": 10**7, "fixed": 4},
            True,
        ),
    ],
)
def test_a_place_is_told_by(what: str, other: Mapping[str, object], expected: bool) -> None:
    seed = {
        "place": PLACE,
        "second": 0,
        "camera": 1,
        "folder": 3,
        "hash": HASH,
        "event": 5,
        "sighting": 5,
        "site": 2,
        "fixed": 4,
    }
    assert reaches(seed, other) is expected, what


def test_a_mirrored_or_turned_copy_is_a_copy() -> None:
    from birdsearch.search.query.turned_hashes import turned_hashes

    given = np.array([HASH], np.uint64)
    for turned in turned_hashes(given)[:, 0].tolist():
        assert reaches({"hash": int(given[0]), "place": PLACE}, {"hash": turned, "place": (1.0, 2.0)})
    assert COPY_BITS == 6


def test_a_cell_touches_those_across_the_antimeridian_and_none_beyond_a_pole() -> None:
    assert reaches({"place": (10.0, 179.98), "second": 0}, {"place": (10.0, -179.9), "second": 1})
    assert reaches({"place": (90.0, 0.0), "second": 0}, {"place": (89.91, 0.0), "second": 1})
    assert not reaches({"place": (90.0, 0.0), "second": 0}, {"place": (-90.0, 0.0), "second": 1})
    assert not reaches({"place": (10.0, 179.9), "second": 0}, {"place": (10.1, -179.7), "second": 1})


def test_what_is_reached_by_way_of_others() -> None:
    seed = {"place": PLACE, "second": 0, "hash": HASH}
    edited = {"second": 10**7, "hash": HASH ^ 1, "event": 3}
    of_its_event = {"place": (47.1, 8.5), "second": 10**7 + 50, "event": 3}
    near_that = {"place": (47.1, 8.5), "second": 10**7 + 90, "hash": 0x35C6_0F1B_8AD2_71E4}
    copy_of_that = {"place": (47.1, 8.5), "hash": 0x35C6_0F1B_8AD2_71E4}
    far = {"place": (47.1, 8.5), "second": 10**8}
    found = Reach(facts(seed, edited, of_its_event, near_that, copy_of_that, far)).reached(
        np.array([True, False, False, False, False, False])
    )
    assert found.tolist() == [True, True, True, True, True, False]


def random_facts(rng: np.random.Generator, count: int) -> PhotoFacts:
    rows = []
    for _ in range(count):
        row: dict[str, object] = {"folder": int(rng.integers(8))}
        if rng.random() < 0.8:
            row["place"] = tuple(rng.uniform(0, 1.5, 2))
        if rng.random() < 0.8:
            row["second"] = int(rng.integers(0, 20 * REACH_S))
        for name, values in (("camera", 6), ("event", 40), ("sighting", 60), ("site", 30), ("fixed", 30)):
            if rng.random() < 0.15:
                row[name] = int(rng.integers(values))
        if rng.random() < 0.2:
            row["hash"] = int(rng.integers(1, 2**62)) if rng.random() < 0.5 else int(rng.integers(1, 60))
        rows.append(row)
    return facts(*rows)


def by_brute_force(some: PhotoFacts, marked: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The rules of the module once more, pair by pair."""
    count = len(some)
    folders: dict[int, int] = dict(zip(some.folder_rows.tolist(), some.folders.tolist(), strict=True))
    columns = round(360 / COARSE_DEGREES)

    def touch(a: int, b: int) -> bool:
        (row, column), (other_row, other) = (
            divmod(int(some.cells[a]), columns),
            divmod(int(some.cells[b]), columns),
        )
        return abs(row - other_row) <= 1 and (column - other + 1) % columns <= 2

    def near(a: int, b: int) -> bool:
        placed = some.cells[[a, b]] != -1
        timed = some.seconds[[a, b]] != NO_TIME
        in_folder = a in folders and folders[a] == folders.get(b)
        together = in_folder or some.cameras[a] == some.cameras[b] >= 0
        if timed.all() and abs(int(some.seconds[a]) - int(some.seconds[b])) <= REACH_S:
            return touch(a, b) if placed.all() else together
        return bool(not timed.all() and placed.all() and in_folder and touch(a, b))

    def copies(a: int, b: int) -> bool:
        from birdsearch.search.query.turned_hashes import turned_hashes

        if not some.hashes[a] or not some.hashes[b]:
            return False
        turned = turned_hashes(some.hashes[[a]])[:, 0]
        return bool((np.bitwise_count(turned ^ some.hashes[b]) <= COPY_BITS).any())

    def shares(codes: tuple[NDArray[np.int64], ...], a: int, b: int) -> bool:
        return any(code[a] == code[b] >= 0 for code in codes)

    def spread(mask: NDArray[np.bool_], rule: object) -> NDArray[np.bool_]:
        from_ = np.flatnonzero(mask).tolist()
        return mask | np.array([any(rule(a, b) for a in from_) for b in range(count)])  # type: ignore[operator]

    own = spread(spread(marked, copies), lambda a, b: shares(some.joined, a, b))
    wide = spread(own, near) | spread(own, lambda a, b: shares(some.fixed, a, b))
    return spread(spread(wide, lambda a, b: shares(some.joined, a, b)), copies)


def test_reach_is_as_the_rules_say_pair_by_pair_and_the_same_either_way() -> None:
    seed = 23
    print("seed", seed)
    rng = np.random.default_rng(seed)
    some = random_facts(rng, 90)
    reach = Reach(some)
    table = np.stack([reach.reached(np.arange(len(some)) == at) for at in range(len(some))])
    np.testing.assert_array_equal(table, table.T)
    assert 0.02 < table.mean() < 0.7
    for _ in range(6):
        marked = rng.random(len(some)) < 0.05
        found = reach.reached(marked)
        np.testing.assert_array_equal(found, by_brute_force(some, marked))
        # So a page of photos can be looked up by itself.
        np.testing.assert_array_equal(found, table[marked].any(axis=0) if marked.any() else marked)
    assert not reach.reached(np.zeros(len(some), bool)).any()


def test_reach_does_not_change_while_places_stay_in_their_cells() -> None:
    rng = np.random.default_rng(3)
    lats, lons = np.round(rng.uniform(0, 2, (2, 200)), 1)
    some = replace(random_facts(rng, 200), cells=cells_of(lats, lons))
    marked = rng.random(200) < 0.03
    expected = Reach(some).reached(marked)
    for _ in range(3):
        moved = rng.uniform(-0.0499, 0.0499, (2, 200))
        there = replace(some, cells=cells_of(lats + moved[0], lons + moved[1]))
        np.testing.assert_array_equal(Reach(there).reached(marked), expected)


def test_a_camera_stood_still_if_all_its_photos_of_a_folder_are_of_one_place() -> None:
    metre = 1 / 111_195
    lats = 60 + metre * np.array([0.0, 20.0, 40.0, 0.0, 20.0, 60.0, 0.0, 0.0, np.nan])
    lons = 20 + metre * np.array([0.0, 50.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    cameras = np.array([1, 1, 1, 2, 2, 2, -1, -1, 1])
    folders = np.array([4, 4, 4, 4, 4, 4, 4, 4, 4])
    # 50 m to the east are 100 m of longitude at 60 degrees north.
    found = standing_cameras(cameras, folders, lats, lons)
    assert len(set(found[:3].tolist())) == 1
    assert found[0] >= 0
    assert found[3:].tolist() == [-1] * 6
    apart = standing_cameras(cameras, np.array([4, 4, 4, 4, 4, 5, 4, 4, 4]), lats, lons)
    assert apart[3] == apart[4] >= 0
    assert apart[5] not in (-1, apart[3])
