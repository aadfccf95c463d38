"""Conditions: parsing, limits, and what they let pass, against plain Python."""

from __future__ import annotations

import fnmatch
import math
import os
from collections.abc import Callable
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.annotations import record, undo
from birdsearch.indexer.catalog.filtered_photos import allowed_views, great_circle_km
from birdsearch.indexer.catalog.filters import Where, parse_bbox, parse_near
from birdsearch.indexer.catalog.taxa import add_taxa, new_taxon
from birdsearch.model.taxonomy import Taxon, Taxonomy

CAMERAS = [None, "NIKON Z 9", "Canon EOS R5", "CANON EOS 7D", "ΣIGMA fp", "Reconyx [HP2X]"]
LENSES = [None, "NIKKOR Z 100-400mm f/4.5-5.6 VR S", "RF600mm F4 L IS USM", "ÉCLAIR 50"]
FOLDERS = [b"", b"a", b"a/b", b"a/b/c", b"ab", b"a b", b"a-b", b"\xff\xfe", b"\xff", b"a/\nb"]
ROOTS = [b"/r", b"/r2", b"/deep/r/er"]


def test_conditions_let_pass_what_plain_python_lets_pass(make_catalog: Callable[..., Any]) -> None:
    rng = np.random.default_rng(1234)
    catalog = make_catalog(4)
    photos = [_random_photo(rng) for _ in range(250)]
    for photo in photos:
        facts = {key: photo[key] for key in ("captured_at", "latitude", "longitude", "camera", "lens")}
        vector = rng.normal(size=4)
        boxes = [(0.0, 0.0, 0.5, 0.5)] if rng.random() < 0.2 else []
        _, photo["views"] = catalog.photo([vector] * (1 + len(boxes)), photo["files"], boxes=boxes, **facts)
    kept = []
    for trial in range(400):
        where = _random_where(rng)
        expected = sorted(view for photo in photos if _passes(photo, where) for view in photo["views"])
        got = allowed_views(catalog.store, catalog.model_id, where)
        assert got.dtype == np.int64
        assert got.tolist() == expected, f"trial {trial}: {where}"
        kept.append(len(expected))
    # The trials are worth something only if they keep none, some and many.
    assert min(kept) == 0
    assert max(kept) > 100
    assert sum(0 < count < 100 for count in kept) > 100


def _random_photo(rng: np.random.Generator) -> dict[str, Any]:
    captured_at = None
    if rng.random() < 0.8:
        moment = datetime(2022, 12, 1) + timedelta(seconds=int(rng.integers(0, 200 * 86400)))
        if rng.random() < 0.3:
            moment = moment.replace(hour=23, minute=59, second=59, microsecond=int(rng.integers(10**6)))
        captured_at = moment.isoformat()
    has_place = rng.random() < 0.8
    # Near the antimeridian as often as anywhere else, and on it.
    longitude = float(
        rng.choice([rng.uniform(-180, 180), rng.uniform(-181, -179) % 360 - 180, 180.0, -180.0])
    )
    # In an order of its own: that of a set of bytes is another in each run.
    names = {
        (
            ROOTS[rng.integers(3)],
            _below(FOLDERS[rng.integers(len(FOLDERS))], b"%d.jpg" % rng.integers(10**9)),
        )
        for _ in range(int(rng.integers(1, 4)))
    }
    return {
        "captured_at": captured_at,
        "latitude": float(rng.uniform(-90, 90)) if has_place else None,
        "longitude": longitude if has_place else None,
        "camera": CAMERAS[rng.integers(len(CAMERAS))],
        "lens": LENSES[rng.integers(len(LENSES))],
        "files": [
            (*name, str(rng.choice(["present", "missing", "error"], p=[0.7, 0.2, 0.1])))
            for name in sorted(names)
        ],
    }


def _below(folder: bytes, name: bytes) -> bytes:
    return folder.rstrip(b"/") + b"/" + name if folder else name


def _random_where(rng: np.random.Generator) -> Where:
    wanted: dict[str, Any] = {}
    if rng.random() < 0.4:
        wanted["since"] = rng.choice(
            ["2023", "2023-01", "2023-02-14", "2023-03-01T12:00", "2023-03-01 12:00:30"]
        )
    if rng.random() < 0.4:
        wanted["until"] = rng.choice(
            ["2023", "2023-04", "2023-05-31", "2023-03-31T23:59", "2023-04-01T00:00:00"]
        )
    if rng.random() < 0.3:
        wanted["near"] = (
            rng.uniform(-90, 90),
            rng.choice([rng.uniform(-180, 180), 179.9]),
            rng.choice([900, 7000]),
        )
    if rng.random() < 0.3:
        south, north = sorted(rng.uniform(-90, 90, 2))
        west, east = (
            rng.choice([rng.uniform(-180, 180), 180.0, -180.0]),
            rng.choice([rng.uniform(-180, 180), 180.0]),
        )
        wanted["bbox"] = (south, west, north, east)
    if rng.random() < 0.3:
        wanted["camera"] = rng.choice(["nikon", "CANON", "σigma", "canon*[57]*", "* r?", "hp2x", "none such"])
    if rng.random() < 0.2:
        wanted["lens"] = rng.choice(["100-400", "éclair", "rf*usm", "*[56]00mm*", "none such"])
    for name in ("under", "exclude_under"):
        if rng.random() < 0.35:
            tops = [*ROOTS, b"/", b"/deep", b"/deep/r", b"/else"]
            wanted[name] = [
                _below(tops[rng.integers(len(tops))], FOLDERS[rng.integers(len(FOLDERS))])
                for _ in range(int(rng.integers(1, 3)))
            ]
    try:
        return Where(**wanted)
    except InvalidInputError:
        return Where()


def _passes(photo: dict[str, Any], where: Where) -> bool:
    taken = None if photo["captured_at"] is None else datetime.fromisoformat(photo["captured_at"])
    earliest, latest = where.span
    if earliest is not None and (taken is None or taken < earliest):
        return False
    if latest is not None and (taken is None or taken > latest):
        return False
    lat, lon = photo["latitude"], photo["longitude"]
    if where.near is not None and (lat is None or _arc_km(where.near, lat, lon) > where.near[2]):
        return False
    if where.bbox is not None:
        south, west, north, east = where.bbox
        if lat is None or not south <= lat <= north:
            return False
        # Measured eastwards from the western border.
        width = 360.0 if east - west == 360 else (east - west) % 360
        if (lon - west) % 360 > width:
            return False
    for fact, part in (("camera", where.camera), ("lens", where.lens)):
        name = photo[fact]
        if part is None:
            continue
        if name is None:
            return False
        wanted = part.casefold()
        is_pattern = any(sign in wanted for sign in "*?[")
        if not fnmatch.fnmatchcase(name.casefold(), wanted if is_pattern else f"*{wanted}*"):
            return False
    return any(
        state != "missing"
        and (not where.under or _is_below(root, path, where.under))
        and not _is_below(root, path, where.exclude_under)
        for root, path, state in photo["files"]
    )


def _is_below(root: bytes, path: bytes, folders: Any) -> bool:
    parts = [part for part in (root + b"/" + path).split(b"/") if part]
    return any(parts[: len(top)] == top for top in ([p for p in f.split(b"/") if p] for f in folders))


def _arc_km(near: tuple[float, float, float], lat: float, lon: float) -> float:
    """The angle between the two unit vectors, by their cross and inner products."""
    one, other = _unit_vector(near[0], near[1]), _unit_vector(lat, lon)
    return 6371.0088 * math.atan2(float(np.linalg.norm(np.cross(one, other))), float(one @ other))


def _unit_vector(lat: float, lon: float) -> np.ndarray:
    phi, theta = math.radians(lat), math.radians(lon)
    return np.array([math.cos(phi) * math.cos(theta), math.cos(phi) * math.sin(theta), math.sin(phi)])


def test_distances_are_those_of_a_sphere() -> None:
    # A quarter of a meridian, across the antimeridian, opposite points, and a few metres.
    far = great_circle_km(0, 0, np.array([90.0, 0.0, 0.0]), np.array([0.0, 180.0, 0.0]))
    assert far == pytest.approx([6371.0088 * math.pi / 2, 6371.0088 * math.pi, 0])
    assert great_circle_km(0, 179.5, np.array([0.0]), np.array([-179.5])) == pytest.approx(
        [111.195], abs=1e-3
    )
    assert great_circle_km(47, 9, np.array([47.00001]), np.array([9.0])) == pytest.approx(
        [0.001112], abs=1e-6
    )


@pytest.mark.parametrize(
    ("value", "first", "last"),
    [
        ("2023", "2023-01-01T00:00:00", "2023-12-31T23:59:59.999999"),
        ("2024-02", "2024-02-01T00:00:00", "2024-02-29T23:59:59.999999"),
        ("2023-05-14", "2023-05-14T00:00:00", "2023-05-14T23:59:59.999999"),
        (date(2023, 5, 14), "2023-05-14T00:00:00", "2023-05-14T23:59:59.999999"),
        ("2023-05-14T06:30", "2023-05-14T06:30:00", "2023-05-14T06:30:59.999999"),
        ("2023-05-14 06:30:15", "2023-05-14T06:30:15", "2023-05-14T06:30:15.999999"),
        ("2023-05-14 06:30:15.5", "2023-05-14T06:30:15.500000", "2023-05-14T06:30:15.500000"),
        (datetime(2023, 5, 14, 6, 30), "2023-05-14T06:30:00", "2023-05-14T06:30:00"),
        ("9999-12-31", "9999-12-31T00:00:00", "9999-12-31T23:59:59.999999"),
    ],
)
def test_a_time_counts_from_its_first_to_its_last_moment(value: Any, first: str, last: str) -> None:
    earliest, latest = Where(since=value, until=value).span
    assert earliest == datetime.fromisoformat(first)
    assert latest == datetime.fromisoformat(last)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"since": "yesterday"}, "since 'yesterday' is not a time .* such as 2023, 2023-05"),
        ({"until": "2023-02-30"}, "until '2023-02-30' is not a time .*day"),
        ({"until": "2023-13"}, "month must be in 1..12"),
        ({"since": "2023-05-14T06:30Z"}, "without a UTC offset"),
        ({"since": "0000"}, "is not a time"),
        ({"since": datetime.fromisoformat("2023-05-14T06:30+02:00")}, "has a UTC offset"),
        ({"since": "2024", "until": "2023"}, "since 2024 is after until 2023; swap them"),
        ({"near": (91.0, 0.0, 5.0)}, "near: the latitude 91 is not within -90 to 90"),
        ({"near": (0.0, 190.0, 5.0)}, "near: the longitude 190"),
        ({"near": (0.0, 0.0, 0.0)}, "near: the distance 0 must be more than 0 km"),
        ({"near": (0.0, 0.0, math.inf)}, "distance inf"),
        (
            {"bbox": (10.0, 0.0, 5.0, 1.0)},
            "the south 10 is above the north 5; the order is SOUTH,WEST,NORTH,EAST",
        ),
        ({"bbox": (0.0, 0.0, 5.0, math.nan)}, "eastern longitude nan"),
        ({"camera": " "}, "camera is empty"),
        ({"lens": ""}, "lens is empty; give a part of it, such as '100-400'"),
        ({"taxon": " "}, "taxon is empty; give the name of a species"),
        ({"verified": "no"}, "verified is 'no'; it is True, False or None"),
        ({"under": "trips"}, "under takes a list of folders"),
        ({"exclude_under": Path("trips")}, "exclude_under takes a list"),
    ],
)
def test_a_condition_outside_its_limits_is_refused_with_the_reason(
    wanted: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Where(**wanted)


def test_the_first_and_the_last_moment_belong_to_the_span(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(4)
    moments = [
        "2023-04-30T23:59:59.999999",
        "2023-05-01T00:00:00",
        "2023-05-31T23:59:59.999999",
        "2023-06-01T00:00:00",
    ]
    views = [catalog.photo([np.ones(4)], captured_at=moment)[1][0] for moment in moments]

    def kept(**wanted: Any) -> list[int]:
        return list(allowed_views(catalog.store, catalog.model_id, Where(**wanted)))

    assert kept(since="2023-05") == views[1:]
    assert kept(until="2023-05") == views[:3]
    assert kept(since="2023-05", until="2023-05-31") == views[1:3]
    assert kept(since="2023-05-01T00:00:00", until=datetime(2023, 5, 1)) == views[1:2]


def test_places_are_parsed_from_text() -> None:
    assert parse_near("-33.9, 151.2,10") == (-33.9, 151.2, 10.0)
    assert parse_bbox("-20,170,-10,-170") == (-20.0, 170.0, -10.0, -170.0)
    for text in ("47.5,9.2", "47.5,9.2,a", "47,5;9", ""):
        with pytest.raises(InvalidInputError, match="must be 3 numbers LAT,LON,KM"):
            parse_near(text)
    with pytest.raises(InvalidInputError, match="must be 4 numbers SOUTH,WEST,NORTH,EAST"):
        parse_bbox("1,2,3")
    with pytest.raises(InvalidInputError, match="latitude 95"):
        parse_near("95,0,1")


def test_a_copy_elsewhere_keeps_a_photo_of_an_excluded_folder(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(4)
    vector = np.ones(4)
    both = catalog.photo([vector], [(b"/r", b"bad/1.jpg", "present"), (b"/r", b"good/1.jpg", "present")])[1]
    gone = catalog.photo([vector], [(b"/r", b"bad/2.jpg", "present"), (b"/r", b"good/2.jpg", "missing")])[1]

    def views(**wanted: Any) -> list[int]:
        return list(allowed_views(catalog.store, catalog.model_id, Where(**wanted)))

    assert views() == both + gone
    assert views(exclude_under=[b"/r/bad"]) == both
    assert views(under=[b"/r/good"]) == both
    assert views(under=[b"/r/bad"], exclude_under=[b"/r/bad"]) == []
    # The copy that `under` does not ask for does not bring the photo back.
    assert views(under=[b"/r/bad", b"/r/other"], exclude_under=["/r/bad/"]) == []


def test_a_relative_folder_is_looked_for_from_the_current_one(
    make_catalog: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "archive" / "trip").mkdir(parents=True)
    (tmp_path / "short").symlink_to(tmp_path / "archive")
    catalog = make_catalog(4)
    root = os.path.realpath(os.fsencode(tmp_path / "archive"))
    inside = catalog.photo([np.ones(4)], [(root, b"trip/1.jpg", "present")])[1]
    catalog.photo([np.ones(4)], [(root, b"tripod/1.jpg", "present")])
    monkeypatch.chdir(tmp_path)
    for folder in ("archive/trip", "./archive/../archive/trip/", "short/trip", Path("short") / "trip"):
        got = allowed_views(catalog.store, catalog.model_id, Where(under=[folder]))
        assert got.tolist() == inside, folder


def test_views_of_missing_photos_and_of_other_models_are_never_allowed(
    make_catalog: Callable[..., Any],
) -> None:
    catalog = make_catalog(4)
    catalog.photo([np.ones(4)], [(b"/r", b"1.jpg", "missing")])
    assert allowed_views(catalog.store, catalog.model_id, Where()).tolist() == []
    here = catalog.photo([np.ones(4)], [(b"/r", b"2.jpg", "error")])[1]
    assert allowed_views(catalog.store, catalog.model_id, Where()).tolist() == here
    assert allowed_views(catalog.store, catalog.model_id + 1, Where()).tolist() == []


def _bird(name: str) -> Taxon:
    taxon = Taxonomy.load().find(name)
    assert taxon is not None
    return taxon


def test_labels_let_pass_what_plain_python_lets_pass(make_catalog: Callable[..., Any]) -> None:
    rng = np.random.default_rng(99)
    catalog = make_catalog(4)
    # Views by photo, and whether a file of the photo is there.
    photos: list[tuple[list[int], bool]] = []
    for number in range(50):
        boxes = [(0.0, 0.0, 0.5, 0.5)] if rng.random() < 0.3 else []
        is_there = rng.random() < 0.9
        files = [(b"/r", b"%d.jpg" % number, "present" if is_there else "missing")]
        _, ids = catalog.photo([np.ones(4)] * (1 + len(boxes)), files, boxes=boxes)
        photos.append((ids, is_there))
    birds = [
        *(_bird(name) for name in ("White stork", "Black stork", "hoopoe", "Rock pigeon", "Feral pigeon")),
        new_taxon("Kaupi zogbird", "Upupa kaupi", "Upupidae", "Zogiformes"),
        new_taxon("Zog"),
    ]
    groups = {
        "white-STORK": {"White stork"},
        "Ciconia": {"White stork", "Black stork"},
        "Ciconiidae": {"White stork", "Black stork"},
        "columba livia": {"Rock pigeon", "Feral pigeon"},
        "Feral pigeon": {"Feral pigeon"},
        "Columbiformes": {"Rock pigeon", "Feral pigeon"},
        "upupa": {"Eurasian hoopoe", "Kaupi zogbird"},
        "Zogiformes": {"Kaupi zogbird"},
        "zog": {"Zog"},
        "Griffon vulture": set(),
    }
    # Name of the positive label by view, replayed.
    positive: dict[int, str] = {}
    for trial in range(9):
        before = dict(positive)
        items = []
        for view in rng.choice([view for ids, _ in photos for view in ids], 15):
            bird = birds[rng.integers(len(birds))]
            verdict = str(rng.choice(["positive", "negative", "uncertain"], p=[0.7, 0.2, 0.1]))
            items.append((int(view), bird, verdict))
            if verdict == "positive":
                positive[int(view)] = bird.common_name
            elif positive.get(int(view)) == bird.common_name:
                del positive[int(view)]
        record(catalog.store, items, "Ada", "test")
        if trial % 3 == 2:
            undo(catalog.store)
            positive = before
        expected = _expected_views(photos, positive)

        def got(**wanted: Any) -> list[int]:
            return list(allowed_views(catalog.store, catalog.model_id, Where(**wanted)))

        assert got(verified=True) == expected(None)
        assert got(verified=False) == sorted(set(got()) - set(expected(None)))
        if trial > 5:
            for name, members in groups.items():
                assert got(taxon=name) == expected(members), name
    assert got(taxon="Ciconia", verified=False) == []
    inside = [b"/r/%d.jpg" % number for number in range(20)]
    both = got(verified=True, under=inside, taxon="Ciconiidae")
    assert both == sorted(set(got(taxon="Ciconiidae")) & set(got(under=inside)))
    assert both


def _expected_views(
    photos: list[tuple[list[int], bool]], positive: dict[int, str]
) -> Callable[[set[str] | None], list[int]]:
    """Views of the photos that are there and have a label among some names, or any."""

    def expected(names: set[str] | None) -> list[int]:
        kept: list[int] = []
        for views, is_there in photos:
            said = {positive[view] for view in views if view in positive}
            if is_there and (said if names is None else said & names):
                kept += views
        return kept

    return expected


def test_a_taxon_that_is_not_known_is_an_error_with_the_nearest(make_catalog: Callable[..., Any]) -> None:
    catalog = make_catalog(4)
    for name, message in (
        ("Grifon vultur", "'Grifon vultur' is no species, genus, .* did you mean Griffon vulture"),
        ("Ciconidae", "did you mean Ciconiidae"),
        ("Desert Warbler", "may be African desert warbler or Asian desert warbler"),
        ("Kaupi zogbird", "is no species"),
    ):
        with pytest.raises(InvalidInputError, match=message):
            allowed_views(catalog.store, catalog.model_id, Where(taxon=name))
    add_taxa(
        catalog.store, "common_name,scientific_name,family,order\nKaupi zogbird,Zogornis kaupi,Zogidae,\n"
    )
    assert allowed_views(catalog.store, catalog.model_id, Where(taxon="Zogidae")).tolist() == []


def test_a_condition_on_labels_is_a_condition() -> None:
    assert Where().is_empty
    for where in (Where(taxon="hoopoe"), Where(verified=True), Where(verified=False)):
        assert not where.is_empty
