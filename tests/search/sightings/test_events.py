"""Exposures, bursts and events: who took what in one go."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog import schema
from birdsearch.indexer.catalog.frames import Frames, cosines_from, read_frames
from birdsearch.model.images.file_names import file_number, name_facts
from birdsearch.search.sightings.cameras import warn_of_apart
from birdsearch.search.sightings.events import EventRules, Grouping, events_of

DIM = 8
CAMERA: dict[str, Any] = {"camera": "Norvik D50", "serial": "300"}
START = datetime(2024, 5, 4, 6, 0)


def at(seconds: float, *, whole: bool = False) -> str:
    """A time so many seconds after the start, with a fraction unless it is none."""
    moment = START + timedelta(seconds=seconds)
    text = moment.isoformat(timespec="microseconds")
    return text[:19] if whole or text.endswith(".000000") else text


def axis(number: int) -> np.ndarray:
    return np.asarray(np.eye(DIM, dtype=np.float32)[number])


class Made:
    """A catalog of photos that a test tells the facts of, by the names of their files."""

    def __init__(self, made: Any) -> None:
        self.made = made
        self.ids: list[int] = []

    def add(
        self,
        name: str,
        captured_at: str | None = None,
        *,
        vector: np.ndarray | None = None,
        folder: str = "/archive/a",
        phash: int | None = None,
        more: Sequence[str] = (),
        **facts: object,
    ) -> None:
        files = [(folder.encode(), name.encode(), "present")]
        files += [(b"/archive", each.encode(), "present") for each in more]
        photo_id, _ = self.made.photo(
            [axis(0) if vector is None else vector],
            files,
            digest=hashlib.sha256(f"{folder}/{name}".encode()).digest(),
            captured_at=captured_at,
            phash=None if phash is None else phash.to_bytes(8),
            **facts,
        )
        self.ids.append(photo_id)

    def frames(self) -> Frames:
        return read_frames(self.made.store, np.array(self.ids, dtype=np.int64))

    def grouping(self, rules: EventRules | None = None, **more: Any) -> tuple[Frames, Grouping]:
        frames = self.frames()
        cosines = cosines_from(self.made.store, self.made.model_id, frames)
        return frames, events_of(frames, cosines, EventRules() if rules is None else rules, **more)

    def names(self) -> dict[int, str]:
        photos = self.made.store.photos(self.ids)
        return {photo_id: photos[photo_id].path.decode().rpartition("/")[2] for photo_id in self.ids}

    def groups(self, level: str, rules: EventRules | None = None, **more: Any) -> set[frozenset[str]]:
        """The groups of a level by the names of the files."""
        frames, grouping = self.grouping(rules, **more)
        names = self.names()
        found: dict[int, set[str]] = {}
        for photo_id, label in zip(frames.photo_ids.tolist(), getattr(grouping, level).tolist(), strict=True):
            found.setdefault(label, set()).add(names[photo_id])
        return {frozenset(group) for group in found.values()}


@pytest.fixture
def made(make_catalog: Callable[..., Any]) -> Made:
    return Made(make_catalog(DIM))


def groups(*names: str) -> set[frozenset[str]]:
    return {frozenset(name.split()) for name in names}


def test_an_event_goes_on_while_the_gaps_are_short_and_a_burst_while_they_are_below_a_second(
    made: Made,
) -> None:
    for name, seconds in zip("abcdefg", (0.1, 0.9, 1.8, 2.85, 62.84, 122.84, 123.83), strict=True):
        made.add(name, at(seconds), **CAMERA)
    assert made.groups("events") == groups("a b c d e", "f g")
    assert made.groups("bursts") == groups("a b c", "d", "e", "f g")
    # A gap of just the limit is too long.
    rules = EventRules(burst_gap_s=0.9, event_gap_s=60.01)
    assert made.groups("events", rules) == groups("a b c d e f g")
    assert made.groups("bursts", rules) == groups("a b", "c", "d", "e", "f", "g")


def test_no_gap_joins_nothing(made: Made) -> None:
    for name in "ab":
        made.add(f"{name}001", at(1, whole=True), **CAMERA)
    rules = EventRules(burst_gap_s=0, event_gap_s=0)
    assert made.groups("events", rules) == made.groups("bursts", rules) == groups("a001", "b001")


def test_an_event_goes_on_over_midnight(made: Made) -> None:
    for name, seconds in (("a", 17.99 * 3600), ("b", 18 * 3600 - 0.3), ("c", 18 * 3600 + 0.2)):
        made.add(name, at(seconds), **CAMERA)
    assert made.groups("events") == groups("a b c")
    assert made.groups("bursts") == groups("a", "b c")


def test_one_photo_and_none(made: Made) -> None:
    frames, grouping = made.grouping()
    assert len(frames) == len(grouping.events) == 0
    made.add("a", at(1), **CAMERA)
    assert made.groups("events") == made.groups("bursts") == made.groups("exposures") == groups("a")


def test_photos_without_time_or_camera_are_alone(made: Made) -> None:
    made.add("a", None, **CAMERA)
    made.add("b", None, **CAMERA)
    made.add("c", at(1))
    made.add("d", at(1))
    assert made.groups("events") == groups("a", "b", "c", "d")


def test_cameras_are_told_apart_by_their_serial_numbers(made: Made) -> None:
    for number, serial in enumerate(("1", "2", "1", "2")):
        made.add(f"DSC_{number:04d}", at(number + 0.5), camera="Wildeye", serial=serial)
    assert made.groups("events") == groups("DSC_0000 DSC_0002", "DSC_0001 DSC_0003")


def test_a_clock_that_is_set_to_another_zone_parts_an_event(made: Made) -> None:
    made.add("a", at(0.1), offset_minutes=120, **CAMERA)
    made.add("b", at(0.2), offset_minutes=60, **CAMERA)
    made.add("c", at(0.3), offset_minutes=None, **CAMERA)
    assert made.groups("events") == groups("a", "b c")


def test_an_event_goes_on_while_clocks_are_put_back_by_an_hour(made: Made) -> None:
    # 02:59:50 summer time, 03:00:00 of it, which is 02:00:00, 02:00:10.
    made.add("c", at(10.5), offset_minutes=60, **CAMERA)
    made.add("a", at(3590.5), offset_minutes=120, **CAMERA)
    made.add("b", at(0.5), offset_minutes=60, **CAMERA)
    made.add("d", at(3595.5), offset_minutes=60, **CAMERA)
    assert made.groups("events") == groups("a b c", "d")


def test_two_cameras_whose_clocks_agree_or_not_never_share_an_event(made: Made) -> None:
    for name, seconds, serial in (("a", 0.5, "1"), ("b", 3600.5, "2"), ("c", 1.5, "2"), ("d", 3601.5, "1")):
        made.add(name, at(seconds), camera="Norvik D50", serial=serial)
    assert made.groups("events") == groups("a", "b", "c", "d")


# -- times in whole seconds ----------------------------------------------------------------------------------


def test_without_fractions_file_numbers_and_likeness_tell_a_burst(made: Made) -> None:
    for number, (second, vector) in enumerate(((0, 0), (0, 0), (1, 0), (2, 1), (4, 1), (5, 1)), start=9998):
        name = f"DSC_{number if number < 10000 else number - 9999:04d}.JPG"
        made.add(name, at(second, whole=True), vector=axis(vector), **CAMERA)
    # 9998 9999 | 0001: the counter turned; the fourth is unlike; the fifth too late.
    assert made.groups("bursts") == groups(
        "DSC_9998.JPG DSC_9999.JPG DSC_0001.JPG", "DSC_0002.JPG", "DSC_0003.JPG DSC_0004.JPG"
    )
    assert len(made.groups("events")) == 1
    assert len(made.groups("exposures")) == 6


def test_without_fractions_a_skipped_number_parts_neighbours_of_two_seconds(made: Made) -> None:
    for number, second in ((10, 0), (12, 0), (14, 1)):
        made.add(f"DSC_{number:04d}.JPG", at(second, whole=True), **CAMERA)
    assert made.groups("bursts") == groups("DSC_0010.JPG DSC_0012.JPG", "DSC_0014.JPG")


def test_frames_named_by_their_second_are_no_copies_of_each_other(made: Made) -> None:
    for number in range(3):
        suffix = f"_{number}" if number else ""
        made.add(f"20240504_060000{suffix}.jpg", at(0, whole=True), phash=number, **CAMERA)
    assert len(made.groups("exposures")) == 3
    assert len(made.groups("bursts")) == 1


def test_a_frame_at_a_full_second_is_no_copy_of_the_next_one_of_a_burst(made: Made) -> None:
    for number, seconds in enumerate((0.0, 0.3, 0.6)):
        made.add(f"20240504_060000{int(1000 * seconds):03d}.jpg", at(seconds), phash=number, **CAMERA)
    made.add("20240504_060000300_edit.jpg", at(0, whole=True), phash=1, **CAMERA)
    assert made.groups("exposures") == groups(
        "20240504_060000000.jpg",
        "20240504_060000300.jpg 20240504_060000300_edit.jpg",
        "20240504_060000600.jpg",
    )


def test_among_times_with_fractions_a_whole_second_is_exact(made: Made) -> None:
    for name, seconds in (("DSC_0001", 4.1), ("DSC_0002", 5.0), ("DSC_0003", 6.05)):
        made.add(name, at(seconds), **CAMERA)
    assert made.groups("bursts") == groups("DSC_0001 DSC_0002", "DSC_0003")


def test_a_frame_that_is_not_alike_at_all_is_of_no_burst(made: Made) -> None:
    made.add("a", at(0.1), vector=axis(0), **CAMERA)
    made.add("b", at(0.2), vector=axis(1), **CAMERA)
    made.add("c", at(0.3), vector=np.full(DIM, np.nan, np.float32), **CAMERA)
    # Of a frame without a usable vector its time has to do.
    assert made.groups("bursts") == groups("a", "b c")


# -- copies ------------------------------------------------------------------------------------------------


def test_edited_versions_of_one_exposure_count_once(made: Made) -> None:
    made.add("DSC_0001.JPG", at(0.1), **CAMERA)
    made.add("DSC_0002.JPG", at(0.3), **CAMERA)
    made.add("DSC_0002_grey.jpg", at(0.3), vector=axis(1), folder="/archive/exports", **CAMERA)
    made.add("DSC_0003.JPG", at(0.5), **CAMERA)
    assert made.groups("exposures") == groups(
        "DSC_0001.JPG", "DSC_0002.JPG DSC_0002_grey.jpg", "DSC_0003.JPG"
    )
    assert len(made.groups("bursts")) == len(made.groups("events")) == 1


def test_two_frames_that_a_camera_counted_are_two_even_at_one_time(made: Made) -> None:
    for number in (1, 2):
        made.add(f"DSC_{number:04d}.JPG", at(0.1), **CAMERA)
    assert len(made.groups("exposures")) == 2
    assert len(made.groups("bursts")) == 1


def test_raw_and_jpeg_of_one_exposure_count_once(made: Made) -> None:
    for number in (1, 2):
        for name in (f"DSC_{number:04d}.JPG", f"DSC_{number:04d}.NEF"):
            made.add(name, at(0, whole=True), **CAMERA)
    assert made.groups("exposures") == groups("DSC_0001.JPG DSC_0001.NEF", "DSC_0002.JPG DSC_0002.NEF")
    assert len(made.groups("bursts")) == 1
    # The same number of another camera at the same second is another exposure.
    made.add("x/DSC_0001.JPG", at(0, whole=True), camera="Norvik D50", serial="999")
    assert len(made.groups("exposures")) == 3


def test_an_editor_that_drops_serial_number_and_fraction_makes_a_copy_all_the_same(made: Made) -> None:
    made.add("DSC_0001.JPG", at(0.4), phash=0, **CAMERA)
    made.add("DSC_0002.JPG", at(0.6), phash=0xFF00, **CAMERA)
    made.add("DSC_0001_edit.jpg", at(0.4, whole=True), phash=0, camera="Norvik D50")
    made.add("best.jpg", at(0.6, whole=True), phash=0xFF01, camera="Norvik D50")
    assert made.groups("exposures") == groups("DSC_0001.JPG DSC_0001_edit.jpg", "DSC_0002.JPG best.jpg")
    assert len(made.groups("events")) == 1


MIRRORED = 0xAAAAAAAAAAAAAAAA


def test_a_copy_without_metadata_is_of_the_event_of_the_photo_that_it_is_nearest_to(made: Made) -> None:
    made.add("DSC_0001.JPG", at(0.4), phash=0b0000, **CAMERA)
    made.add("DSC_0002.JPG", at(9.6), phash=0b0011, **CAMERA)
    made.add("DSC_0003.JPG", at(999.0), phash=0xFFFF, **CAMERA)
    made.add("sent.jpg", phash=0b0111)
    made.add("mirrored.jpg", phash=0xFFFF ^ MIRRORED)
    made.add("other.jpg", phash=0xFFFF_0000_FFFF)
    made.add("mail.jpg", phash=0xFFFE_0000_FFFF)
    assert made.groups("exposures") == groups(
        "DSC_0001.JPG", "DSC_0002.JPG sent.jpg", "DSC_0003.JPG mirrored.jpg", "other.jpg mail.jpg"
    )
    assert made.groups("events") == groups(
        "DSC_0001.JPG DSC_0002.JPG sent.jpg", "DSC_0003.JPG mirrored.jpg", "other.jpg mail.jpg"
    )


def test_of_two_near_photos_the_one_of_the_same_number_is_the_original(made: Made) -> None:
    made.add("DSC_0001.JPG", at(0.4), phash=0b0000, **CAMERA)
    made.add("DSC_0002.JPG", at(9.6), phash=0b0111, **CAMERA)
    made.add("DSC_0002_sent.jpg", phash=0b0001)
    assert made.groups("exposures") == groups("DSC_0001.JPG", "DSC_0002.JPG DSC_0002_sent.jpg")


def test_of_two_that_are_as_near_the_first_by_content_is_the_original(made: Made) -> None:
    names = ("DSC_0001.JPG", "DSC_0002.JPG", "DSC_0003.JPG")
    for number, name in enumerate(names):
        # One bit in another band of the hash each.
        made.add(name, at(100.0 * number + 0.4), phash=1 << (16 * number), **CAMERA)
    made.add("sent.jpg", phash=0)
    first = min(names, key=lambda name: hashlib.sha256(f"/archive/a/{name}".encode()).digest())
    assert frozenset((first, "sent.jpg")) in made.groups("exposures")


def test_a_far_hash_needs_a_like_vector(made: Made) -> None:
    made.add("DSC_0001.JPG", at(0.4), phash=0, **CAMERA)
    made.add("alike.jpg", phash=0xFF)
    made.add("unlike.jpg", phash=0xFF00, vector=axis(1))
    made.add("far.jpg", phash=0xFFF000)
    assert made.groups("exposures") == groups("DSC_0001.JPG alike.jpg", "unlike.jpg", "far.jpg")


def test_what_another_model_took_or_another_time_says_is_no_copy(made: Made) -> None:
    made.add("DSC_0001.JPG", at(0.4), phash=0, **CAMERA)
    made.add("DSC_0009.JPG", at(900.4), phash=0xF0F0F0, **CAMERA)
    made.add("a.jpg", None, phash=0, camera="Halcyon R6")
    made.add("b.jpg", at(100.0), phash=0xF0F0F0)
    assert len(made.groups("exposures")) == 4


# -- cameras without a serial number -----------------------------------------------------------------------


def test_two_cameras_of_one_model_in_two_folders_are_two_if_their_photos_interleave(made: Made) -> None:
    for number in range(4):
        made.add(f"GX{100 + number}.JPG", at(4 * number + 0.2), folder="/archive/left", camera="Hero")
        made.add(f"GX{700 + number}.JPG", at(4 * number + 2.2), folder="/archive/right", camera="Hero")
    made.add("GX150.JPG", at(7000.5), folder="/archive/later", camera="Hero")
    assert len(made.groups("events")) == 3
    assert len(np.unique(made.grouping()[1].cameras)) == 3


def test_one_camera_whose_photos_were_sorted_into_folders_stays_one(made: Made) -> None:
    for number in range(8):
        folder = f"/archive/{('crow', 'wren')[number % 2]}"
        made.add(f"DSC_{100 + number:04d}.JPG", at(4 * number + 0.2), folder=folder, camera="Hero")
    assert len(made.groups("events")) == 1


def test_one_camera_that_goes_on_in_the_next_folder_stays_one(made: Made) -> None:
    for number, folder in enumerate(("100", "100", "101", "101")):
        made.add(f"GX{number:04d}x.JPG", at(number + 0.2), folder=f"/archive/{folder}", camera="Hero")
    assert len(made.groups("events")) == 1


def test_edited_copies_in_another_folder_make_no_second_camera(made: Made) -> None:
    for number in range(6):
        made.add(f"DSC_{number:04d}.JPG", at(number + 0.4), camera="Hero")
        made.add(
            f"DSC_{number:04d}_web.jpg", at(number + 0.4, whole=True), folder="/archive/web", camera="Hero"
        )
    assert len(np.unique(made.grouping()[1].cameras)) == 1
    assert len(made.groups("exposures")) == 6


def test_deployments_tell_cameras_of_one_model_apart(made: Made) -> None:
    for number in range(4):
        made.add(f"IMG_{number:04d}.JPG", at(number + 0.5), folder=f"/archive/{number % 2}", camera="Hero")
    frames = made.frames()
    assert len(made.groups("events")) == 1
    assert len(made.groups("events", deployments=frames.folders)) == 2


def hashed(seed: int) -> int:
    """A perceptual hash as far from others as those of unrelated pictures are."""
    return int(np.random.default_rng(seed).integers(2**63)) << 1


@pytest.mark.parametrize("start", [START, datetime(2000, 1, 1)])
def test_two_cameras_without_serial_numbers_in_step_are_two(made: Made, start: datetime) -> None:
    """Same seconds, same counters, other folders: a duck and a grosbeak that were never seen together."""
    for number in range(6):
        for place, folder in enumerate(("/archive/pond", "/archive/feeder")):
            taken = (start + timedelta(seconds=2 * number)).isoformat()
            vector = axis(place) + 0.1 * axis(2 + number)
            facts: dict[str, Any] = {
                "camera": "Trail X",
                "phash": hashed(10 * place + number),
                "vector": vector,
            }
            made.add(f"IMAG{number + 1:04d}.JPG", taken, folder=folder, **facts)
    frames, grouping = made.grouping()
    assert len(np.unique(grouping.exposures)) == 12
    assert len(np.unique(grouping.events)) == 2
    for event in np.unique(grouping.events):
        assert len(np.unique(frames.folders[grouping.events == event])) == 1
    (note,) = warn_of_apart(frames, grouping.apart)
    assert "2 folders hold photos of one camera model without a serial number" in note
    assert "/archive/pond" in note
    assert "`birdsearch deployments`" in note
    # Deployments say it, and nothing is left to be guessed.
    _, grouping = made.grouping(deployments=frames.folders)
    assert len(np.unique(grouping.events)) == 2
    assert warn_of_apart(frames, grouping.apart) == ()


def test_two_cameras_in_step_whose_counters_differ_are_two(made: Made) -> None:
    for number in range(4):
        for place, folder in enumerate(("/archive/pond", "/archive/feeder")):
            facts: dict[str, Any] = {
                "camera": "Trail X",
                "phash": hashed(10 * place + number),
                "vector": axis(place),
            }
            name = f"IMAG{100 + 600 * place + number:04d}.JPG"
            made.add(name, at(4 * number, whole=True), folder=folder, **facts)
    assert len(np.unique(made.grouping()[1].cameras)) == 2


def test_copies_of_one_camera_in_a_folder_of_the_same_names_make_no_second_camera(made: Made) -> None:
    for number in range(6):
        for folder in ("/archive/card", "/backup/card"):
            facts: dict[str, Any] = {
                "camera": "Trail X",
                "phash": hashed(number) ^ (folder == "/backup/card"),
            }
            made.add(f"IMAG{number:04d}.JPG", at(4 * number, whole=True), folder=folder, **facts)
    frames, grouping = made.grouping()
    assert len(np.unique(grouping.exposures)) == 6
    assert warn_of_apart(frames, grouping.apart) == ()


def test_a_camera_whose_clock_and_counter_were_reset_takes_two_exposures(made: Made) -> None:
    for place, folder in enumerate(("/archive/may", "/archive/june")):
        made.add(
            *("IMAG0001.JPG", "2000-01-01T00:00:05"),
            folder=folder,
            phash=hashed(place),
            vector=axis(place),
            **CAMERA,
        )
    _, grouping = made.grouping()
    assert len(np.unique(grouping.exposures)) == 2


def test_a_crop_of_an_exposure_is_one_with_it_though_its_hash_is_far(made: Made) -> None:
    near = 0.7 * axis(0) + 0.7 * axis(1)
    made.add("DSC_0001.JPG", at(0.1), phash=hashed(1), **CAMERA)
    made.add("DSC_0001_crop.jpg", at(0.1), phash=hashed(2), vector=near, folder="/archive/web", **CAMERA)
    made.add("IMAG0002.JPG", at(5, whole=True), phash=hashed(3), camera="Hero")
    made.add("IMAG0002-crop.jpg", at(5, whole=True), phash=hashed(4), vector=near, camera="Hero")
    assert made.groups("exposures") == groups(
        "DSC_0001.JPG DSC_0001_crop.jpg", "IMAG0002.JPG IMAG0002-crop.jpg"
    )


@pytest.mark.parametrize("base", ["X", "DSC_1649", "20240504_060000", "heron at dawn"])
def test_sizes_of_one_exposure_are_no_burst(made: Made, base: str) -> None:
    sizes = {"-640": (640, 427), "-2400": (2400, 1600), "-1024x683": (1024, 683), "-scaled": (2560, 1707)}
    sizes |= {"_thumb": (160, 107), "": (6000, 4000), " (1)": (3000, 2000)}
    for number, (label, (width, height)) in enumerate(sizes.items()):
        made.add(f"{base}{label}.jpg", at(0, whole=True), phash=1 << (9 * number), **CAMERA)
        with made.made.store.writing() as connection:
            connection.execute(
                sa.update(schema.photo)
                .where(schema.photo.c.id == made.ids[-1])
                .values(width=width, height=height)
            )
    assert len(made.groups("exposures")) == 1
    assert len(made.groups("bursts")) == 1


def test_frames_of_a_burst_of_one_size_are_no_sizes_of_one_exposure(made: Made) -> None:
    for number in range(3):
        made.add(f"heron ({number + 1}).jpg", at(0, whole=True), phash=1 << (9 * number), **CAMERA)
        made.add(f"wren-{640 + number}.jpg", at(9, whole=True), phash=1 << (9 * number), **CAMERA)
    assert len(made.groups("exposures")) == 6


# -- order, oracle, rules ------------------------------------------------------------------------------------


def random_photos(
    rng: np.random.Generator, count: int
) -> list[tuple[tuple[str, str | None], dict[str, Any]]]:
    photos = []
    seconds = np.cumsum(rng.choice([0.1, 0.2, 0.3, 1.5, 20.0, 61.0], count))
    for number in range(count):
        facts: dict[str, Any] = {
            "camera": ("Norvik D50", "Hero", None)[int(rng.choice(3, p=[0.7, 0.2, 0.1]))],
            "folder": f"/archive/{int(rng.integers(3))}",
            "phash": int(rng.integers(2**62)) if number % 3 else int(rng.integers(8)),
            "vector": axis(int(rng.integers(2))) + rng.normal(0, 0.05, DIM).astype(np.float32),
        }
        facts["serial"] = str(rng.integers(2)) if facts["camera"] == "Norvik D50" else None
        taken = None if rng.random() < 0.15 else at(float(seconds[number]), whole=bool(rng.random() < 0.3))
        photos.append(
            ((f"DSC_{number // 2:04d}{'-e' if number % 5 == 0 else ''}.{number}.jpg", taken), facts)
        )
    return photos


def test_the_groups_do_not_depend_on_the_order_in_which_photos_were_indexed(
    make_catalog: Callable[..., Any],
) -> None:
    seed = 11
    print("seed", seed)
    rng = np.random.default_rng(seed)
    photos = random_photos(rng, 45)
    seen = []
    for turn in range(2):
        made = Made(make_catalog(DIM, f"catalog{turn}"))
        for place in range(45) if turn == 0 else rng.permutation(45):
            (name, taken), facts = photos[int(place)]
            made.add(name, taken, **facts)
        frames, grouping = made.grouping()
        names = made.names()
        leads = {names[each] for each in frames.photo_ids[grouping.leads].tolist()}
        levels = [made.groups(level) for level in ("exposures", "bursts", "events")]
        assert len(levels[0]) > len(levels[1]) > len(levels[2]) > 1
        assert len(leads) == len(levels[0])
        seen.append((leads, levels))
    assert seen[0] == seen[1]


def test_events_and_bursts_are_those_of_a_pair_by_pair_comparison(made: Made) -> None:
    rng = np.random.default_rng(5)
    seconds = np.cumsum(rng.choice([0.35, 0.95, 1.05, 30.0, 59.5, 60.5], 60)).tolist()
    serials = rng.integers(0, 2, 60).tolist()
    for number, (second, serial) in enumerate(zip(seconds, serials, strict=True)):
        made.add(f"p{number:03d}", at(second + 0.001), camera="Norvik D50", serial=str(serial))
    for level, gap in (("events", 60.0), ("bursts", 1.0)):
        parent = list(range(60))
        for i, j in itertools.combinations(range(60), 2):
            if serials[i] == serials[j] and abs(seconds[i] - seconds[j]) < gap:
                parent = [parent[i] if each == parent[j] else each for each in parent]
        expected: dict[int, set[str]] = {}
        for number, label in enumerate(parent):
            expected.setdefault(label, set()).add(f"p{number:03d}")
        assert made.groups(level) == {frozenset(group) for group in expected.values()}


def test_numbers_are_read_from_names() -> None:
    assert file_number(b"DSC_1649.NEF") == (b"DSC_", 1649, True)
    assert file_number(b"DSC_1649 (1).JPG") == (b"DSC_", 1649, False)
    assert file_number(b"DSC_1649_crop-90.jpg") == (b"DSC_", 1649, False)
    assert file_number(b"2024-03-16 DSC_1649.jpg") == (b" DSC_", 1649, True)
    assert file_number(b"20240316_064221000.jpg") == (b"", 20240316064221000, True)
    assert file_number(b"IMG_20240316_064221_1.jpg") == (b"IMG_", 20240316064221, False)
    assert file_number(b"2024-03-16 06.42.21.jpg") == (b"", 20240316064221, True)
    assert file_number(b"2024-03-16.jpg") == file_number(b"IMG-20240316-WA7.jpg") == (b"", -1, False)
    assert file_number(b"best.jpg") == file_number(b"a12.jpg") == (b"", -1, False)
    assert file_number(b"IMG_0000.JPG") == (b"IMG_", 0, True)
    assert file_number(b"P2024139.JPG")[1] == 2024139


def test_a_size_in_a_name_is_no_counter() -> None:
    sides = (2400, 1600)
    assert name_facts(b"X-2400.jpg", sides) == (b"", -1, False, b"X")
    assert name_facts(b"DSC_1649-2400.jpg", sides) == (b"DSC_", 1649, False, b"DSC_1649")
    assert name_facts(b"DSC_1649-2400x1600 (1).jpg", sides) == (b"DSC_", 1649, False, b"DSC_1649")
    assert name_facts(b"DSC_1649_thumb.jpg", sides)[1:] == (1649, False, b"DSC_1649")
    # Another picture's size is a counter; and after an underscore cameras count.
    assert name_facts(b"wren-641.jpg", sides) == (b"wren-", 641, True, b"wren-641")
    assert name_facts(b"DSC_2400.jpg", sides) == (b"DSC_", 2400, True, b"DSC_2400")
    assert name_facts(b"cobweb.jpg", sides).base == b"cobweb"


def test_a_file_that_is_named_as_the_camera_names_them_stands_for_its_copies(made: Made) -> None:
    for number in range(3):
        made.add(
            f"DSC_{number:04d}.JPG", at(number + 0.5), more=[f"Best/best-{9 - number:03d}.jpg"], **CAMERA
        )
    made.add("DSC_0003.JPG", at(4.5), **CAMERA)
    assert sorted(made.frames().numbers.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "values",
    [
        {"burst_gap_s": -1.0},
        {"event_gap_s": float("nan")},
        {"burst_gap_s": 90.0},
        {"event_gap_s": 1e10},
        {"min_cosine": 1.5},
        {"min_cosine_whole": float("nan")},
    ],
)
def test_rules_outside_their_limits_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        EventRules(**values)
