"""The rules that say which copy is kept."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import pytest

from birdsearch.errors import InvalidInputError
from birdsearch.search.dedup.keep import DEFAULT_RULES, FileFacts, KeepRules, choose

MEGA = 1_000_000
PLAIN = FileFacts(
    path=b"/a/one.jpg",
    format="JPEG",
    pixels=24 * MEGA,
    sharpness=100.0,
    size=5 * MEGA,
    captured_at="2023-05-01T06:30:00",
    has_place=True,
    has_camera=True,
    mtime_ns=0,
)


def chosen(rules: str, *others: FileFacts) -> tuple[int, str]:
    choice = choose([PLAIN, *others], KeepRules.parse(rules))
    return choice.chosen, choice.why


@pytest.mark.parametrize(
    ("rule", "better", "why"),
    [
        ("resolution", {"pixels": 50 * MEGA}, "50.0 megapixels, the other has 24.0"),
        ("sharpness", {"sharpness": 150.0}, "sharpness 150, the other has 100"),
        ("original-format", {"format": "RAW"}, "RAW, the other is JPEG"),
        ("labels", {"is_labelled": True}, "bears a verified label, the other has none"),
        ("labels", {"keywords": ("Birds", "Mallard")}, "keywords Birds, Mallard; the other has none"),
        ("labels", {"companions": 1}, "1 companion file beside it, the other has none"),
        ("size", {"size": 9 * MEGA}, "9,000 kB, the other has 5,000 kB"),
        (
            "oldest",
            {"captured_at": "2022-01-02T03:04:05.5"},
            "taken 2022-01-02 03:04:05, the other was taken later",
        ),
        ("oldest", {"mtime_ns": -3_000_000_000}, "oldest file, the other was changed later"),
        ("path:two", {}, "its path matches two"),
        ("path:/A/T??.jpg", {}, "its path matches /A/T??.jpg"),
    ],
)
def test_a_rule_keeps_what_is_better_by_it_and_says_why(
    rule: str, better: dict[str, object], why: str
) -> None:
    other = replace(PLAIN, path=b"/a/two.jpg", **better)  # type: ignore[arg-type]
    assert chosen(rule, other) == (1, why)


def test_metadata_counts_time_place_and_camera() -> None:
    stripped = replace(PLAIN, path=b"/a/0.jpg", captured_at=None, has_place=False, has_camera=False)
    less = replace(PLAIN, path=b"/a/1.jpg", has_place=False)
    assert chosen("metadata", stripped) == (0, "tells time, place, camera; the other tells none of the three")
    assert chosen("metadata", stripped, less) == (
        0,
        "tells time, place, camera; the others tell at most 2 of the three",
    )
    assert choose([stripped, less], KeepRules(("metadata",))).chosen == 1


def test_several_worse_files_are_summed_up() -> None:
    small = [replace(PLAIN, path=b"/a/%d.jpg" % megas, pixels=megas * MEGA) for megas in (1, 2)]
    assert chosen("resolution", *small) == (0, "24.0 megapixels, the others have at most 2.0")
    others = [replace(PLAIN, path=b"/b", format="GIF"), replace(PLAIN, path=b"/c", format="WEBP")]
    assert chosen("original-format", *others) == (0, "JPEG, the others are GIF or WEBP")


def test_the_first_rule_that_tells_decides_and_the_next_judge_what_is_left() -> None:
    raw = replace(PLAIN, path=b"/a/raw.nef", format="RAW", pixels=24 * MEGA - 1000)
    thumbnail = replace(PLAIN, path=b"/a/thumb.png", format="PNG", pixels=MEGA // 20)
    assert chosen("resolution,original-format", raw, thumbnail) == (
        1,
        "24.0 megapixels, the other has 0.05; RAW, the other is JPEG",
    )
    assert chosen("original-format", thumbnail)[0] == 1


def test_what_is_as_good_as_equal_is_left_to_the_next_rule() -> None:
    border = replace(PLAIN, path=b"/a/2.jpg", pixels=25 * MEGA, sharpness=105.0, size=PLAIN.size + 1000)
    assert chosen("resolution,sharpness,size,path:one", border)[0] == 0
    seconds = replace(PLAIN, path=b"/a/2.jpg", captured_at="2023-05-01T06:30:00.25", mtime_ns=2 * 10**9)
    assert chosen("oldest,path:2", seconds)[0] == 1


def test_a_file_without_a_capture_time_is_no_original() -> None:
    stripped = replace(PLAIN, path=b"/a/0.jpg", captured_at=None, mtime_ns=-(10**18))
    assert chosen("oldest", stripped) == (
        0,
        "taken 2023-05-01 06:30:00, the other was taken at an unknown time",
    )


@pytest.mark.parametrize(
    "name", [b"IMG_1-edit.jpg", b"IMG_1 (1).JPG", b"Copy of img_1.jpg", b"IMG_1.jpg.png", b"aIMG_1.webp"]
)
def test_a_name_that_was_made_from_another_is_not_kept(name: bytes) -> None:
    original = replace(PLAIN, path=b"/z/IMG_1.JPG")
    other = replace(PLAIN, path=b"/a/" + name)
    choice = choose([other, original], KeepRules(("name",)))
    assert choice == (1, "the other name is made from its name")


def test_names_that_have_nothing_in_common_tell_nothing() -> None:
    others = [replace(PLAIN, path=path) for path in (b"/a/best-5.jpg", b"/a/one-edit.jpg", b"/b/one.jpg")]
    place, why = chosen("name", *others)
    assert (place, why) == (2 - 1, "as good as the others; first by path")
    assert chosen("name", others[2]) == (0, "as good as the other; first by path")


def test_ties_end_with_the_path_whatever_the_order() -> None:
    files = [replace(PLAIN, path=path) for path in (b"/b/1.jpg", b"/a/2.jpg", b"/a/1.jpg")]
    for order in itertools.permutations(files):
        choice = choose(order, KeepRules())
        assert order[choice.chosen].path == b"/a/1.jpg"
        assert choice.why == "as good as the others; first by path"


def test_a_file_with_several_paths_goes_before_an_equal_one_and_not_before_a_better_one() -> None:
    linked = replace(PLAIN, path=b"/z.jpg", is_linked=True)
    assert chosen("resolution", linked) == (1, "has several paths (hard links)")
    assert chosen("resolution", replace(linked, pixels=MEGA))[0] == 0


def test_a_reference_wins_over_everything_and_rules_choose_among_references() -> None:
    worse = replace(PLAIN, path=b"/z.gif", format="GIF", pixels=MEGA, is_reference=True)
    assert chosen("resolution", worse) == (1, "in a reference folder")
    better = replace(worse, path=b"/zz.gif", pixels=2 * MEGA)
    place, why = chosen("resolution", worse, better)
    assert (place, why) == (2, "in a reference folder; 2.0 megapixels, the other has 1.0")


def test_the_choice_does_not_depend_on_the_order_of_the_files() -> None:
    generator = random.Random(7)
    for _ in range(300):
        files = [
            FileFacts(
                path=b"/%d/%d.jpg" % (generator.randrange(3), number),
                format=generator.choice(["RAW", "JPEG", "PNG", "GIF"]),
                pixels=generator.choice([MEGA, 24 * MEGA, 23 * MEGA]),
                sharpness=generator.choice([None, 90.0, 100.0, 300.0]),
                size=generator.choice([1000, 1005, 5000]),
                captured_at=generator.choice([None, "2023-05-01T06:30:00", "2023-05-01T06:30:00.5"]),
                has_place=generator.random() < 0.5,
                has_camera=generator.random() < 0.5,
                mtime_ns=generator.choice([0, 10**9, 3 * 10**9, 10**12]),
                is_reference=generator.random() < 0.2,
                is_linked=generator.random() < 0.2,
                is_labelled=generator.random() < 0.2,
                keywords=generator.choice([(), ("Birds",), ("Birds", "Mallard")]),
                companions=generator.randrange(3),
            )
            for number in range(4)
        ]
        rules = KeepRules(tuple(generator.sample([*DEFAULT_RULES, "sharpness", "path:/1/"], 3)))
        expected = choose(files, rules)
        shuffled = files[:]
        generator.shuffle(shuffled)
        found = choose(shuffled, rules)
        assert (shuffled[found.chosen], found.why) == (files[expected.chosen], expected.why)


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("resolution", ("resolution",)),
        ("resolution, oldest", ("resolution", "oldest")),
        ("path:/a,b/*,oldest", ("path:/a,b/*", "oldest")),
        ("path:x,path:y", ("path:x", "path:y")),
    ],
)
def test_rules_are_read_from_text(text: str, rules: tuple[str, ...]) -> None:
    assert KeepRules.parse(text).rules == rules


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rule is given; the rules are resolution, "),
        ("newest", "there is no rule 'newest'; the rules are resolution, .* and path:GLOB"),
        ("path:", "there is no rule 'path:'"),
    ],
)
def test_rules_that_do_not_exist_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        KeepRules.parse(text)


def test_there_has_to_be_a_file() -> None:
    with pytest.raises(InvalidInputError, match="no file"):
        choose([], KeepRules())
