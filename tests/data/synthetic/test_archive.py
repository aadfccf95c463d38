"""Synthetic archives and their ground truth."""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, UnidentifiedImageError

from birdsearch.data.synthetic import KINDS, ArchiveSummary, Truth, World, read_truth, write_archive
from birdsearch.data.synthetic.jpeg import CORRUPTIONS, EDITS
from birdsearch.errors import BirdsearchError, InvalidInputError

SEED = 3
Archive = tuple[ArchiveSummary, list[Truth]]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    folder = tmp_path_factory.mktemp("archive") / "survey"
    summary = write_archive(folder, seed=SEED, photos=150, size=192, workers=2)
    return summary, read_truth(folder)


def _hashes(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _of(archive: Archive, *kinds: str) -> list[tuple[Path, Truth]]:
    summary, rows = archive
    return [(summary.folder / row.path, row) for row in rows if row.kind in kinds]


def test_every_file_has_one_row_and_every_row_a_file(archive: Archive) -> None:
    summary, rows = archive
    paths = [row.path for row in rows]
    assert sorted(paths) == sorted(set(_hashes(summary.folder)) - {"truth.csv"})
    assert all("\\" not in path for path in paths)


def test_there_is_every_kind_of_truth(archive: Archive) -> None:
    summary, rows = archive
    assert set(summary.files) == {row.kind for row in rows} == set(KINDS)
    assert sum(row.kind in ("photo", "empty") for row in rows) == 150
    assert {row.edit for row in rows if row.kind == "near-copy"} == set(EDITS)
    assert {row.edit for row in rows if row.kind == "corrupt"} == set(CORRUPTIONS)
    assert {row.orientation for row in rows if row.kind == "photo"} == {"1", "6", "8"}
    assert {row.known for row in rows if row.kind == "photo"} == {"0", "1"}
    assert {row.gps for row in rows if row.kind == "photo"} == {"0", "1"}
    assert len({row.site for row in rows if row.site}) >= 4
    assert len({row.camera for row in rows if row.camera}) >= 4
    assert any("/.thumbnails/" in row.path for row in rows)
    assert {row.path.rpartition(".")[2] for row in rows if row.kind == "sidecar"} >= {"xmp", "txt", "db"}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_smallest_archive_has_every_kind_of_truth_too(tmp_path: Path, seed: int) -> None:
    summary = write_archive(tmp_path / "a", seed=seed, photos=24, size=64, workers=1)
    rows = read_truth(summary.folder)
    assert set(summary.files) == set(KINDS)
    photos = [row for row in rows if row.kind == "photo"]
    assert {"0", "1"} == {row.known for row in photos}
    assert {"1", "6", "8"} == {row.orientation for row in photos}
    assert any(row.burst for row in photos)
    sites = defaultdict(set)
    for row in photos:
        sites[row.individual].add(row.site)
    assert max(map(len, sites.values())) > 1


def test_the_truth_agrees_with_the_world(archive: Archive) -> None:
    world = World()
    for _, row in _of(archive, "photo"):
        species = world.species(row.species)
        assert (row.common_name, row.genus, row.family, row.order, row.known) == (
            species.common_name,
            species.genus,
            species.family,
            species.order,
            str(int(species.known)),
        )
        assert row.individual.startswith(row.species.lower().replace(" ", "-"))
    assert all(not row.species and not row.box for _, row in _of(archive, "empty"))


def test_exif_says_what_the_truth_says(archive: Archive) -> None:
    seen = 0
    for path, row in _of(archive, "photo", "empty", "copy", "near-copy"):
        with Image.open(path) as image:
            exif = image.getexif()
        details, gps = exif.get_ifd(0x8769), exif.get_ifd(0x8825)
        if row.exif == "0":
            assert not exif
            continue
        fraction = details[37521].ljust(3, "0")
        stamp = datetime.strptime(f"{details[36867]}.{fraction}{details[36881]}", "%Y:%m:%d %H:%M:%S.%f%z")
        assert stamp == datetime.fromisoformat(row.captured_at)
        assert stamp.utcoffset() == datetime.fromisoformat(row.captured_at).utcoffset()
        assert str(exif[274]) == row.orientation
        assert exif[271]
        assert exif[272]
        assert details[42033]
        assert details[42036]
        if row.gps == "1":
            for sign, value, truth in ((gps[1], gps[2], row.latitude), (gps[3], gps[4], row.longitude)):
                degrees = float(value[0]) + float(value[1]) / 60 + float(value[2]) / 3600
                assert degrees * (-1 if sign in "SW" else 1) == pytest.approx(float(truth), abs=1e-6)
        else:
            assert not gps
        seen += 1
    assert seen > 140


def test_southern_and_western_positions_occur(archive: Archive) -> None:
    places = [(float(row.latitude), float(row.longitude)) for _, row in _of(archive, "photo", "empty")]
    assert any(latitude < 0 and longitude < 0 for latitude, longitude in places)
    assert all(abs(latitude) <= 90 and abs(longitude) <= 180 for latitude, longitude in places)


def test_portrait_frames_are_stored_turned(archive: Archive) -> None:
    turned = [(path, row) for path, row in _of(archive, "photo") if row.orientation != "1"]
    assert turned
    for path, _ in turned:
        with Image.open(path) as image:
            assert image.width > image.height
            upright = ImageOps.exif_transpose(image)
        assert upright.width < upright.height


def test_an_upright_near_copy_of_a_turned_frame_shows_the_same_picture(tmp_path: Path) -> None:
    from birdsearch.data.synthetic.jpeg import Shot, edit, encode

    pixels = np.random.default_rng(1).integers(0, 256, (12, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize((64, 96), Image.Resampling.BICUBIC)
    for orientation in (6, 8):
        at = datetime.fromisoformat("2024-05-01T06:00:00.250+02:00")
        shot = Shot("Norvik", "D50", "1", "lens", at, 3, (-1.5, 2.5), orientation, 100, 95)
        content, box = edit("reencode-q50", encode(picture, shot), shot, (0.1, 0.2, 0.3, 0.4))
        (tmp_path / "near.jpg").write_bytes(content)
        with Image.open(tmp_path / "near.jpg") as image:
            assert image.size == (64, 96)
            gap = np.abs(np.asarray(image, dtype=np.float32) - np.asarray(picture, dtype=np.float32))
        assert gap.mean() < 8
        assert box == (0.1, 0.2, 0.3, 0.4)
        assert edit("mirror", encode(picture, shot), shot, (0.1, 0.2, 0.3, 0.4))[1] == pytest.approx(
            (0.6, 0.2, 0.3, 0.4)
        )


def test_copies_are_equal_bytes_and_near_copies_are_not(archive: Archive) -> None:
    summary, _ = archive
    hashes = _hashes(summary.folder)
    for _, row in _of(archive, "copy"):
        assert row.copy_of
        assert hashes[row.path] == hashes[row.copy_of]
    for path, row in _of(archive, "near-copy"):
        assert hashes[row.path] != hashes[row.copy_of]
        with Image.open(path) as near:
            near.load()
    originals = [hashes[row.path] for _, row in _of(archive, "photo", "empty")]
    assert len(set(originals)) == len(originals)


def test_corrupt_files_cannot_be_read_and_all_others_can(archive: Archive) -> None:
    for path, row in _of(archive, "corrupt"):
        assert path.suffix == ".jpg"
        with pytest.raises((OSError, UnidentifiedImageError)), Image.open(path) as image:
            image.load()
        assert path.stat().st_size == 0 or row.edit != "empty-file"
    for path, row in _of(archive, "photo", "empty", "copy", "thumbnail"):
        with Image.open(path) as image:
            image.load()
            assert (max(image.size) == 192) == (row.kind != "thumbnail")


def test_bursts_events_and_sightings_are_what_the_truth_says_they_are(archive: Archive) -> None:
    _, rows = archive
    groups: dict[str, dict[str, list[Truth]]] = {
        name: defaultdict(list) for name in ("burst", "event", "sighting")
    }
    for row in rows:
        for name, group in groups.items():
            if row.kind in ("photo", "empty") and getattr(row, name):
                group[getattr(row, name)].append(row)
    assert len(groups["burst"]) > 5

    def gaps(frames: list[Truth]) -> list[timedelta]:
        times = sorted(datetime.fromisoformat(row.captured_at) for row in frames)
        return [b - a for a, b in itertools.pairwise(times)]

    for frames in groups["burst"].values():
        assert 3 <= len(frames) <= 8
        assert len({(row.individual, row.camera, row.event) for row in frames}) == 1
        assert all(timedelta(0) < gap < timedelta(seconds=1) for gap in gaps(frames))
    for frames in groups["event"].values():
        assert len({(row.camera, row.site, row.individual) for row in frames}) == 1
        assert all(gap < timedelta(minutes=1) for gap in gaps(frames))
    for frames in groups["sighting"].values():
        assert len({(row.individual, row.site) for row in frames}) == 1
        assert all(gap < timedelta(minutes=30) for gap in gaps(frames))
    # Two sightings of one individual are apart in place or by more than an hour.
    spans = defaultdict(list)
    for name, frames in groups["sighting"].items():
        times = [datetime.fromisoformat(row.captured_at) for row in frames]
        spans[frames[0].individual, frames[0].site].append((min(times), max(times), name))
    for seen in spans.values():
        seen.sort()
        assert all(later[0] - earlier[1] > timedelta(hours=1) for earlier, later in itertools.pairwise(seen))


def test_some_individuals_are_seen_at_several_sites_and_days(archive: Archive) -> None:
    sites, days = defaultdict(set), defaultdict(set)
    for _, row in _of(archive, "photo"):
        sites[row.individual].add(row.site)
        days[row.individual].add(row.captured_at[:10])
    assert sum(len(each) > 1 for each in sites.values()) >= 2
    assert sum(len(each) > 1 for each in days.values()) >= 2


def test_two_cameras_never_share_a_serial_and_a_file_name_is_never_used_twice(archive: Archive) -> None:
    cameras = defaultdict(set)
    for path, row in _of(archive, "photo", "empty"):
        with Image.open(path) as image:
            cameras[image.getexif().get_ifd(0x8769)[42033]].add(row.camera)
    assert all(len(each) == 1 for each in cameras.values())
    assert len(cameras) >= 4


def test_a_rerun_writes_the_same_bytes_with_any_number_of_workers(tmp_path: Path) -> None:
    hashes = []
    for number, workers in enumerate((1, 2, 3)):
        folder = tmp_path / str(number)
        write_archive(folder, seed=7, photos=30, size=96, workers=workers)
        hashes.append(_hashes(folder))
    assert hashes[0] == hashes[1] == hashes[2]
    write_archive(tmp_path / "other", seed=8, photos=30, size=96, workers=1)
    assert _hashes(tmp_path / "other") != hashes[0]


def test_progress_is_told_and_ends_at_the_number_of_frames(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    write_archive(
        tmp_path / "a", seed=0, photos=24, size=64, workers=1, progress=lambda *each: told.append(each)
    )
    assert told == sorted(told)
    assert told[-1] == (24, 24)


def test_arguments_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="photos is 23: fewer than 24"):
        write_archive(tmp_path / "a", seed=0, photos=23)
    with pytest.raises(InvalidInputError, match="size is 10: it has to be 64 to 8192"):
        write_archive(tmp_path / "a", seed=0, size=10)
    with pytest.raises(InvalidInputError, match="workers is 0"):
        write_archive(tmp_path / "a", seed=0, workers=0)
    with pytest.raises(InvalidInputError, match="seed is -1"):
        write_archive(tmp_path / "a", seed=-1)
    assert not (tmp_path / "a").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.jpg").write_bytes(b"mine")
    with pytest.raises(InvalidInputError, match="is not empty"):
        write_archive(tmp_path, seed=0, photos=24, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.jpg"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="cannot be made"):
        write_archive(tmp_path / "file", seed=0, photos=24, size=64)


def test_a_disk_that_cannot_be_written_is_told_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BirdsearchError, match=r"could not be written: .*No space left"):
        write_archive(tmp_path / "a", seed=0, photos=24, size=64, workers=1)
    assert not (tmp_path / "a" / "truth.csv").exists()


def test_a_folder_without_a_finished_truth_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"holds no truth\.csv"):
        read_truth(tmp_path)
    (tmp_path / "truth.csv").write_text("path,kind\na.jpg,photo\n", encoding="utf-8")
    with pytest.raises(InvalidInputError, match=r"lacks the columns .*species"):
        read_truth(tmp_path)
