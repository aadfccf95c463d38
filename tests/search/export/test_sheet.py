"""Contact sheets: what is on them, and what must not be."""

from __future__ import annotations

import base64
import html.parser
import io
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.model.images.box import Box
from birdsearch.search.export.sheet import write_sheet
from birdsearch.search.export.sheet_page import sheet_page
from birdsearch.search.export.sheet_photos import Pictures, shorten_middle
from birdsearch.search.query.hits import Hit, LabelEstimate, QueryPhoto, QueryResult

MakePhoto = Callable[..., Path]
LABELS = (
    LabelEstimate("wren", None, "species", 0.75, 0.75),
    LabelEstimate("rook", None, "species", 0.2, 0.2),
)


def hit(file: Path, rank: int = 1, **changes: object) -> Hit:
    values: dict[str, object] = {
        "rank": rank, "similarity": 0.9 - rank / 100, "path": str(file), "photo_id": rank, "view_id": rank,
        "view": "whole", "box": Box(), "label": "wren", "label_probability": 0.5,
        "captured_at": "2023-05-14T06:30:12", "lat": 47.123456, "lon": 9.654321, "camera": "Z 9",
        "file": os.fsencode(file),
    }  # fmt: skip
    return Hit(**{**values, **changes})  # type: ignore[arg-type]


def answer(file: Path, hits: tuple[Hit, ...], box: Box | None = None) -> QueryResult:
    return QueryResult(QueryPhoto(str(file), 7, box, os.fsencode(file)), hits, LABELS, None, ("a warning",))


class Page(html.parser.HTMLParser):
    """The elements and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def images(self) -> list[Image.Image]:
        found: list[Image.Image] = []
        for tag, attributes in self.elements:
            if tag == "img":
                kind, data = str(attributes["src"]).split(",", 1)
                assert kind == "data:image/jpeg;base64"
                found.append(Image.open(io.BytesIO(base64.b64decode(data))))
        return found


@pytest.fixture
def photo(make_photo: MakePhoto, tmp_path: Path) -> Path:
    """A portrait with a place, a comment and an orientation in its metadata."""
    exif = Image.Exif()
    exif[270], exif[274] = "SECRET COMMENT", 6
    exif.get_ifd(0x8825)[2] = (47.0, 7.0, 24.0)
    return make_photo(tmp_path / "photo.jpg", 3, size=(300, 200), exif=exif)


def test_a_page_shows_each_hit_and_holds_nothing_that_runs_or_is_fetched(photo: Path, tmp_path: Path) -> None:
    hits = tuple(hit(photo, rank) for rank in range(1, 4))
    write_sheet(tmp_path / "sheet.html", [answer(photo, hits), answer(photo, ())])
    text = (tmp_path / "sheet.html").read_text(encoding="utf-8")
    page = Page(text)
    assert [tag for tag, _ in page.elements].count("section") == 2
    assert len(page.images()) == 5
    assert all(attributes["alt"] for tag, attributes in page.elements if tag == "img")
    assert "0.890" in page.text
    assert "wren 50%" in page.text
    assert "2023-05-14 06:30" in page.text
    assert "75.0%" in page.text
    assert "No similar photos were found." in page.text
    assert "a warning" in page.text
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert not re.findall(r"https?://|url\(", text)
    assert "default-src 'none'" in text
    assert "prefers-color-scheme: dark" in text


def test_thumbnails_are_upright_and_carry_no_metadata_and_no_place_is_shown(
    photo: Path, tmp_path: Path
) -> None:
    for name in ("sheet.html", "sheet.png"):
        write_sheet(tmp_path / name, [answer(photo, (hit(photo),))])
        content = (tmp_path / name).read_bytes()
        assert b"SECRET" not in content
        assert b"47.1" not in content
        assert b"9.65" not in content
    page = Page((tmp_path / "sheet.html").read_text(encoding="utf-8"))
    for image in page.images():
        assert image.height > image.width
        assert not image.getexif()
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert not sheet.info


def test_every_text_from_outside_is_escaped(photo: Path, tmp_path: Path) -> None:
    evil = "<img src=x onerror=alert(1)>\"'&"
    result = QueryResult(
        QueryPhoto(evil, None, None, os.fsencode(photo)),
        (hit(photo, path=evil, label=evil), hit(tmp_path / "gone.jpg", path=f"/a/{evil}")),
        (LabelEstimate(evil, None, "species", 1.0, 1.0),),
        None,
        (evil,),
    )
    write_sheet(tmp_path / "sheet.html", [result])
    page = Page((tmp_path / "sheet.html").read_text(encoding="utf-8"))
    assert all(attributes.get("src") != "x" for _, attributes in page.elements)
    assert not any("onerror" in attributes for _, attributes in page.elements)
    # As text: two labels and the warning; the file names are shortened.
    assert page.text.count("onerror=alert(1)") == 3


@pytest.mark.parametrize("name", ["sheet.html", "sheet.png"])
def test_a_photo_that_cannot_be_read_leaves_a_tile_with_the_reason(
    photo: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "short.jpg").write_bytes(photo.read_bytes()[:900])
    hits = (hit(tmp_path / "gone.jpg"), hit(tmp_path / "short.jpg", 2), hit(photo, 3))
    write_sheet(tmp_path / name, [QueryResult(QueryPhoto("image"), hits, LABELS)])
    if name.endswith(".html"):
        page = Page((tmp_path / name).read_text(encoding="utf-8"))
        assert len(page.images()) == 1
        assert "Not shown: the file is not there any more" in page.text
        assert "Not shown: the JPEG" in page.text
        assert "given as an image" in page.text


def test_a_picture_shows_the_photos_where_they_belong(tmp_path: Path) -> None:
    for name, colour in (("red", "#c00000"), ("green", "#00a000"), ("blue", "#0000c0")):
        Image.new("RGB", (400, 200), colour).save(tmp_path / f"{name}.png")
    hits = (hit(tmp_path / "green.png"), hit(tmp_path / "blue.png", 2))
    write_sheet(tmp_path / "sheet.png", [answer(tmp_path / "red.png", hits)])
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.mode == "RGB"
        columns = {}
        for name, wanted in (("red", (192, 0, 0)), ("green", (0, 160, 0)), ("blue", (0, 0, 192))):
            mask = Image.fromarray((np.asarray(sheet) == wanted).all(axis=2))
            box = mask.getbbox()
            assert box is not None
            columns[name] = box
    # Left to right, twice as wide as high, the query larger than a hit.
    assert columns["red"][2] < columns["green"][0] < columns["green"][2] < columns["blue"][0]
    for left, top, right, bottom in columns.values():
        assert (right - left) / (bottom - top) == pytest.approx(2, abs=0.05)
    assert columns["red"][2] - columns["red"][0] > columns["green"][2] - columns["green"][0]
    assert columns["green"][1] == columns["blue"][1]


def test_a_region_is_marked_on_the_photo_it_was_found_in(tmp_path: Path) -> None:
    Image.new("RGB", (200, 100), "black").save(tmp_path / "black.png")
    pictures = Pictures(200)
    whole = pictures.hit(hit(tmp_path / "black.png")).image
    part = pictures.hit(hit(tmp_path / "black.png", box=Box(0.25, 0.5, 0.5, 0.5))).image
    assert whole is not None
    assert part is not None
    assert whole.getbbox() is None
    assert part.getbbox() == pytest.approx((50, 50, 150, 100), abs=4)
    query = pictures.query(
        QueryPhoto("x", None, Box(0, 0, 0.1, 0.1), os.fsencode(tmp_path / "black.png"))
    ).image
    assert query is not None
    assert query.getbbox() == pytest.approx((0, 0, 20, 10), abs=4)


def test_a_picture_that_would_be_too_high_is_refused(photo: Path, tmp_path: Path) -> None:
    results = [answer(photo, ())] * 60
    with pytest.raises(
        InvalidInputError, match=r"60 photos would be \d+ pixels high, more than 32000; write it as"
    ):
        write_sheet(tmp_path / "sheet.png", results)
    assert list(tmp_path.glob("*sheet*")) == []


def test_a_sheet_that_cannot_be_written_says_so_and_leaves_nothing(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="name a file in a folder that exists"):
        write_sheet(tmp_path / "none" / "sheet.html", [answer(photo, ())])
    with pytest.raises(InvalidInputError, match=r"written as .png or .html, not 'sheet.gif'"):
        write_sheet(tmp_path / "sheet.gif", [])
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InvalidInputError, match="cannot be written"):
        write_sheet(tmp_path / "folder.html", [answer(photo, ())])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.html", "photo.jpg"]


def test_a_sheet_replaces_the_one_before_and_has_the_usual_permissions(photo: Path, tmp_path: Path) -> None:
    target = tmp_path / "sheet.html"
    target.write_text("old")
    write_sheet(target, [answer(photo, ())])
    assert "old" not in target.read_text(encoding="utf-8")[:10]
    (tmp_path / "plain").touch()
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_a_long_name_keeps_its_beginning_and_its_end() -> None:
    assert shorten_middle("IMG_0001.jpg", lambda text: len(text) <= 12) == "IMG_0001.jpg"
    assert shorten_middle("a_very_long_name_0001.jpg", lambda text: len(text) <= 12) == "a_very…1.jpg"
    assert shorten_middle("abc", lambda text: len(text) <= 1) == "…"
    assert shorten_middle("abc", lambda _: False) == "…"


def test_hostile_text_is_text_in_every_part_of_a_page(tmp_path: Path) -> None:
    evil = "</style><script>alert(1)<!-- \"'\u202e&"
    hits = (hit(tmp_path / "none.jpg", path=f"/a/{evil}", label=evil, label_probability=None),)
    labels = (LabelEstimate(evil, None, "species", 0.5, 0.5),)
    result = QueryResult(QueryPhoto(f"/q/{evil}"), hits, labels, None, (evil,))
    text = sheet_page([result]).decode()
    page = Page(text)
    assert "<script" not in text
    assert not {tag for tag, _ in page.elements} & {"script", "iframe"}
    assert page.text.count(evil) == 3
    assert [each["title"] for _, each in page.elements if "title" in each] == [f"/q/{evil}", f"/a/{evil}"]
