"""Small pictures: kept whole, and compared as a person would."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageOps

from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.search.dedup.fingerprint import TURNS, Fingerprint, compare, fingerprint, prepared


def scene(seed: int, size: tuple[int, int] = (384, 256)) -> Image.Image:
    """A picture with structure at every scale and a dark "bird" in its middle."""
    rng = np.random.default_rng(seed)
    wide, high = size
    total = np.zeros((high, wide, 3), np.float32)
    for cells in (3, 6, 12, 24, 48):
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32) / cells**0.35
    total = 30 + 190 * (total - total.min()) / (total.max() - total.min())
    made = Image.fromarray(total.astype(np.uint8))
    draw = ImageDraw.Draw(made)
    x, y = wide // 2, high // 2
    draw.ellipse((x - 40, y - 22, x + 34, y + 24), fill=(60, 35, 30))
    draw.ellipse((x + 22, y - 34, x + 52, y - 6), fill=(90, 40, 30))
    return made


def pixels(image: Image.Image) -> NDArray[np.uint8]:
    return np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BICUBIC))


def of(image: Image.Image) -> Fingerprint:
    return fingerprint(pixels(image), *image.size)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer)


def exposed(image: Image.Image, stops: float) -> Image.Image:
    bright = np.asarray(image, np.float32) * 2**stops
    return Image.fromarray(np.clip(bright, 0, 255).astype(np.uint8))


def captioned(image: Image.Image) -> Image.Image:
    made = image.copy()
    draw = ImageDraw.Draw(made)
    draw.rectangle((0, made.height - 24, made.width, made.height), fill=(0, 0, 0))
    draw.text((6, made.height - 22), "Site 12  2024-05-06  07:08", fill=(255, 255, 255), font_size=18)
    return made


EDITS = {
    "jpeg 30": lambda image: jpeg(image, 30),
    "a quarter": lambda image: image.resize((96, 64), Image.Resampling.LANCZOS),
    "twice": lambda image: image.resize((768, 512), Image.Resampling.LANCZOS),
    "crop": lambda image: image.crop((30, 12, 364, 246)),
    "border": lambda image: ImageOps.expand(image, 12, fill=(255, 255, 255)),
    "brighter": lambda image: exposed(image, 0.7),
    "darker": lambda image: exposed(image, -1.0),
    "grey": lambda image: ImageOps.grayscale(image).convert("RGB"),
    "sharpened": lambda image: image.filter(ImageFilter.UnsharpMask(2, 100, 2)),
    "captioned": captioned,
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("seed", [1, 2])
def test_edits_of_one_picture_are_copies(edit: str, seed: int) -> None:
    original, changed = of(scene(seed)), of(EDITS[edit](scene(seed)))
    found, back = compare(original, changed), compare(changed, original)
    assert found.is_copy, (found, seed)
    assert 0.5 <= found.similarity <= 1
    assert found.reason.startswith("same picture")
    # The answer is the same from the other side.
    assert (back.is_copy, back.similarity, back.residual) == (True, found.similarity, found.residual)
    assert compare(prepared(original), changed) == found


def test_a_picture_is_its_own_best_copy() -> None:
    one = of(scene(3))
    found = compare(one, one)
    assert found.is_copy
    assert found.similarity > 0.98
    assert found.reason == "same picture"
    assert found.overlap == pytest.approx((0, 0, 1, 1), abs=0.01)


def test_what_was_cropped_and_brightened_is_said() -> None:
    original = of(scene(4))
    crop = compare(original, of(scene(4).crop((38, 0, 384, 256))))
    assert crop.overlap == pytest.approx((38 / 384, 0, 346 / 384, 1), abs=0.02)
    assert "cropped by 10 %" in crop.reason or "cropped by 9 %" in crop.reason
    assert "brighter" in compare(original, of(exposed(scene(4), 0.5))).reason
    assert "darker" in compare(original, of(exposed(scene(4), -0.5))).reason
    assert "without colour" in compare(original, of(ImageOps.grayscale(scene(4)).convert("RGB"))).reason
    assert "strip at the bottom" in compare(original, of(captioned(scene(4)))).reason


def test_the_next_frame_with_the_bird_moved_is_no_copy() -> None:
    still = scene(5)
    moved = still.copy()
    # The same background, pixel for pixel; only what is in the middle has moved by a tenth of the frame.
    bird = still.crop((140, 86, 250, 160))
    moved.paste(scene(6).crop((140, 86, 250, 160)).filter(ImageFilter.GaussianBlur(1)), (140, 86))
    moved.paste(bird, (178, 92))
    found = compare(of(still), of(moved))
    assert not found.is_copy
    assert found.similarity < 0.5
    assert "differs in places" in found.reason


def test_another_picture_is_no_copy() -> None:
    for seed in range(10, 20):
        found = compare(of(scene(seed)), of(scene(seed + 100)), rotations=True)
        assert not found.is_copy, seed
        assert found.similarity < 0.5


@pytest.mark.parametrize("fill", [0, 128, 255])
def test_a_picture_without_structure_is_a_copy_of_nothing(fill: int) -> None:
    blank = of(Image.new("RGB", (320, 240), (fill, fill, fill)))
    for other in (blank, of(scene(1))):
        found = compare(blank, other)
        assert not found.is_copy
        assert found.reason == "too little structure to tell"


@pytest.mark.parametrize("turn", TURNS)
def test_turned_copies_are_told_only_when_asked(turn: str) -> None:
    image = scene(7)
    changed = ImageOps.mirror(image) if turn.startswith("mirror") else image
    quarters = {"90": 1, "180": 2, "270": 3}.get(turn.rpartition("-")[2], 0)
    # Pillow turns counter-clockwise.
    changed = changed.rotate(-90 * quarters, expand=True) if quarters else changed
    found = compare(of(image), of(changed), rotations=True)
    assert found.is_copy
    assert found.turn == turn
    assert compare(of(image), of(changed)).is_copy is (turn == "")


def test_bytes_give_the_fingerprint_back_and_damage_is_noticed() -> None:
    one = of(scene(8))
    data = one.to_bytes()
    again = Fingerprint.from_bytes(data)
    assert (again.width, again.height) == (one.width, one.height)
    assert np.array_equal(again.luma, one.luma)
    assert np.array_equal(again.chroma, one.chroma)
    assert len(data) < 16_000
    rng = np.random.default_rng(0)
    for place in [0, 1, 5, 9, 12, *rng.integers(13, len(data), 20).tolist()]:
        broken = bytearray(data)
        broken[place] ^= 0x55
        with pytest.raises(CatalogError, match="make it again"):
            Fingerprint.from_bytes(bytes(broken))
    for cut in (0, 5, 13, len(data) - 3):
        with pytest.raises(CatalogError, match="make it again"):
            Fingerprint.from_bytes(data[:cut])


def test_other_shapes_and_types_are_refused() -> None:
    with pytest.raises(InvalidInputError, match=r"got \(256, 256\) uint8"):
        fingerprint(np.zeros((256, 256), np.uint8), 10, 10)
    with pytest.raises(InvalidInputError, match="float32"):
        fingerprint(np.zeros((256, 256, 3), np.float32), 10, 10)
    with pytest.raises(InvalidInputError, match="got 0 x 10"):
        fingerprint(np.zeros((256, 256, 3), np.uint8), 0, 10)
