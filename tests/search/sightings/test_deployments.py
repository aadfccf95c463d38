"""Deployments: tables of them, folders as them, and which photo is of which."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import CatalogReadOnlyError, InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.deployments import (
    Deployment,
    read_deployments,
    remove_deployments,
    store_deployments,
)
from birdsearch.indexer.catalog.frames import Frames, read_frames
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.query.deployed import assign
from birdsearch.search.sightings.deployments import (
    deployments_from_folders,
    missing_folders,
    parse_deployments,
)

VECTOR = np.ones(8, np.float32)


@pytest.fixture
def made(make_catalog: Callable[..., Any]) -> Any:
    return make_catalog()


def frames_of(made: Any) -> Frames:
    with made.store.reading() as connection:
        ids = connection.execute(sa.select(schema.photo.c.id)).scalars().all()
    return read_frames(made.store, np.array(ids, dtype=np.int64))


def add(made: Any, *paths: str, captured_at: str | None = None, **facts: object) -> int:
    files = [(b"/archive", path.encode(), "present") for path in paths]
    photo_id: int = made.photo([VECTOR], files, captured_at=captured_at, **facts)[0]
    return photo_id


def assigned(made: Any, *deployments: Deployment) -> tuple[dict[int, str | None], tuple[str, ...]]:
    """The deployment's name by photo id, and the conflicts."""
    frames = frames_of(made)
    found = assign(deployments, frames)
    names = [None if code < 0 else deployments[code].name for code in found.codes.tolist()]
    return dict(zip(frames.photo_ids.tolist(), names, strict=True)), found.conflicts


def at(name: str, folder: str | None = None, **facts: Any) -> Deployment:
    return Deployment(name, name, None if folder is None else folder.encode(), **facts)


def test_a_table_is_read_by_our_names_and_by_those_of_camtrap_dp() -> None:
    ours = (
        "deployment,site,folder,camera,start,end,latitude,longitude,remark\n"
        'd1,"North, gate",/archive/a,,2024-05-01,2024-05-31,52.5,-8.25,wet\n'
        ",,,,,,,,\n"
        "d2,,,300,,,,,\n"
    )
    assert parse_deployments(ours, "t.csv") == [
        Deployment("d1", "North, gate", b"/archive/a", None, "2024-05-01", "2024-05-31", 52.5, -8.25),
        Deployment("d2", "d2", None, "300"),
    ]
    theirs = (
        "\ufeffdeploymentID,locationID,locationName,latitude,longitude,deploymentStart,deploymentEnd,cameraID\n"
        "x,l1,Old oak,1,2,2024-05-01T00:00:00Z,2024-05-02T00:00:00+02:00,c9\n"
    )
    (one,) = parse_deployments(theirs, "deployments.csv")
    assert (one.name, one.site, one.camera, one.latitude) == ("x", "Old oak", "c9", 1.0)
    assert one.starts_at == "2024-05-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "site,folder\na,b\n",
            "t.csv has no column `name`, `deployment` or `deploymentID`.*its columns: site, folder",
        ),
        ("name,site\nd1,a\n", "t.csv, line 2: d1: give a folder or a camera"),
        ("name,folder\n,/a\n", "line 2: a deployment needs a name"),
        ("name,folder\nd,/a\nd,/b\n", "line 3: the deployment 'd' comes twice"),
        ("name,folder,start\nd,/a,soon\n", "'soon' is not a time"),
        ("name,folder,start,end\nd,/a,2024-05-02,2024-05-01\n", "after its end"),
        ("name,folder,latitude,longitude\nd,/a,north,1\n", "'north' is not a number"),
        ("name,folder,latitude,longitude\nd,/a,nan,1\n", "'nan' is not a number"),
        ("name,folder,latitude,longitude\nd,/a,91,1\n", "the latitude 91 is not within"),
        ("name,folder,latitude\nd,/a,9\n", "give both latitude and longitude"),
        ('name,folder\nd,"/a\n', "is not CSV"),
    ],
)
def test_a_table_that_cannot_be_used_is_told_by_line(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message.replace("(", "\\(")):
        parse_deployments(text, "t.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_is_read_with_any_separator_and_a_folder_that_is_not_there_is_told(
    tmp_path: Path, separator: str
) -> None:
    (tmp_path / "north" / "cam").mkdir(parents=True)
    rows = [
        ["Deployment", "Folder", "Latitude", "Longitude"],
        ["d1", "north\\cam", "47.5", "9.25"],
        ["d2", "gone", "", ""],
    ]
    if separator == ";":
        rows[1][2:] = "47,5", "9,25"
    text = "\n".join(separator.join(row) for row in rows)
    found = parse_deployments(text, "t.csv", [str(tmp_path).encode()])
    assert found[0].folder == str(tmp_path / "north" / "cam").encode()
    assert (found[0].latitude, found[0].longitude) == (47.5, 9.25)
    (warning,) = missing_folders(found)
    assert warning.startswith("d2: there is no folder ")


def test_a_relative_folder_is_looked_for_in_the_indexed_ones(tmp_path: Path) -> None:
    (tmp_path / "two" / "cam").mkdir(parents=True)
    roots = [str(tmp_path / name).encode() for name in ("one", "two")]
    (found,) = parse_deployments("name,folder\nd,cam/\n", "t.csv", roots)
    assert found.folder == str(tmp_path / "two" / "cam").encode()


def test_the_deepest_folder_counts(made: Any) -> None:
    one, two, three = add(made, "a/x.jpg"), add(made, "a/b/c/y.jpg"), add(made, "ab/z.jpg")
    names, conflicts = assigned(made, at("outer", "/archive/a"), at("inner", "/archive/a/b"))
    assert names == {one: "outer", two: "inner", three: None}
    assert conflicts == ()
    assert assigned(made, at("inner", "/archive/a/b"), at("outer", "/archive/a"))[0] == names


def test_camera_and_dates_have_to_fit_and_a_conflict_is_told(made: Any) -> None:
    may = at("may", "/archive/a", starts_at="2024-05-01", ends_at="2024-05-31")
    june = at("june", "/archive/a", starts_at="2024-06-01", ends_at="2024-06-30T12:00", camera="hero")
    hero = {"camera": "GoPro Hero 9", "serial": "1"}
    in_may = add(made, "a/1.jpg", captured_at="2024-05-31T23:59:59.5")
    in_june = add(made, "a/2.jpg", captured_at="2024-06-30T12:00:00", **hero)
    other_camera = add(made, "a/3.jpg", captured_at="2024-06-02T12:00:00", camera="Norvik D50")
    too_late = add(made, "a/4.jpg", captured_at="2024-07-01T12:00:00", **hero)
    untimed = add(made, "a/5.jpg", camera="Norvik D50")
    names, conflicts = assigned(made, may, june)
    assert names == {
        in_may: "may", in_june: "june", other_camera: None, too_late: None, untimed: "may"
    }  # fmt: skip
    assert conflicts == ("2 photos in /archive/a are of another camera or time than its deployment",)


def test_a_photo_that_several_deployments_fit_is_of_none(made: Any) -> None:
    one = add(made, "a/1.jpg", captured_at="2024-05-05T10:00:00")
    names, conflicts = assigned(made, at("x", "/archive/a"), at("y", "/archive/a"), at("z", "/archive"))
    assert names == {one: None}
    assert conflicts == ("1 photo is of more than one deployment, by folder, camera and time",)


def test_of_two_files_the_photo_s_own_folder_counts(made: Any) -> None:
    for number in range(3):
        add(made, f"trap/DSC_{number:04d}.JPG")
    both = add(made, "best/best-001.jpg", "trap/DSC_0009.JPG")
    names, conflicts = assigned(made, at("best", "/archive/best"), at("trap", "/archive/trap"))
    assert names[both] == "trap"
    assert conflicts == ()


def test_without_a_folder_camera_and_time_decide(made: Any) -> None:
    trap = at("trap", None, camera="300", starts_at="2024-05-01", ends_at="2024-05-31")
    facts = {"camera": "Wildeye", "serial": "300"}
    one = add(made, "a/1.jpg", captured_at="2024-05-05T10:00:00", **facts)
    late = add(made, "a/2.jpg", captured_at="2024-06-05T10:00:00", **facts)
    untimed = add(made, "a/3.jpg", **facts)
    other = add(made, "a/4.jpg", captured_at="2024-05-05T10:00:00", camera="Wildeye", serial="301")
    assert assigned(made, trap)[0] == {one: "trap", late: None, untimed: None, other: None}
    everywhere = at("all", None, camera="wildeye")
    assert set(assigned(made, everywhere)[0].values()) == {"all"}


def test_times_with_an_offset_are_compared_in_utc_where_the_photo_tells_its_own(made: Any) -> None:
    one = at("d", "/archive/a", starts_at="2024-05-01T10:00:00Z")
    before = add(made, "a/1.jpg", captured_at="2024-05-01T11:30:00", offset_minutes=120)
    after = add(made, "a/2.jpg", captured_at="2024-05-01T12:30:00", offset_minutes=120)
    untold = add(made, "a/3.jpg", captured_at="2024-05-01T11:30:00")
    assert assigned(made, one)[0] == {before: None, after: "d", untold: "d"}


def test_folders_of_a_level_become_deployments(made: Any) -> None:
    add(made, "2024/05 Fen/1.jpg")
    add(made, "2024/05 Fen/phone/2.jpg")
    add(made, "2024/06 Wood/3.jpg")
    add(made, "top.jpg")
    made.photo([VECTOR], [(b"/other", b"2024/05 Fen/9.jpg", "present")])
    roots = [b"/archive", b"/other"]
    found = deployments_from_folders(frames_of(made), roots, 2)
    assert [(one.name, one.site, one.folder) for one in found] == [
        ("archive/2024/05 Fen", "05 Fen", b"/archive/2024/05 Fen"),
        ("2024/06 Wood", "06 Wood", b"/archive/2024/06 Wood"),
        ("other/2024/05 Fen", "05 Fen", b"/other/2024/05 Fen"),
    ]
    for level in (0, 4):
        with pytest.raises(InvalidInputError, match="level"):
            deployments_from_folders(frames_of(made), roots, level)


def test_deployments_are_stored_changed_and_forgotten(made: Any) -> None:
    store: CatalogStore = made.store
    one, two = at("one", "/archive/a"), at("two", None, camera="300", latitude=1.5, longitude=2.5)
    summary = store_deployments(store, [two, one], "deployments import")
    assert (summary.added, summary.updated, summary.unchanged) == (2, 0, 0)
    read = read_deployments(store)
    assert [(each.name, each.folder, each.latitude) for each in read] == [
        ("one", b"/archive/a", None), ("two", None, 1.5)
    ]  # fmt: skip
    moved = at("one", "/archive/b")
    summary = store_deployments(store, [moved, two], "deployments import")
    assert (summary.added, summary.updated, summary.unchanged) == (0, 1, 1)
    assert read_deployments(store)[0].id == read[0].id
    photo = add(made, "a/1.jpg")
    with store.writing() as connection:
        connection.execute(
            sa.insert(schema.event).values(
                run_id=summary.run_id, photo_id=photo, burst=1, event=1, sighting=1, deployment_id=read[0].id
            )
        )
    with pytest.raises(InvalidInputError, match="no deployment 'three'"):
        remove_deployments(store, ["one", "three"])
    assert remove_deployments(store, ["one", "one"]) == 1
    assert [each.name for each in read_deployments(store)] == ["two"]
    with store.reading() as connection:
        assert connection.execute(sa.select(schema.event.c.deployment_id)).scalar_one() is None
    with CatalogStore.open(store.path) as reader, pytest.raises(CatalogReadOnlyError):
        store_deployments(reader, [one], "x")
