"""Photos decoded no larger than a network needs, held against the whole photo."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.model.images.photo import LoadedPhoto, PhotoLimits, load_photo, open_photo
from birdsearch.model.images.resizing import resize, resize_loaded
from birdsearch.model.images.scaling import DECODE_MODES, Need, check_mode, jpeg_scale, reduced_by, sharpened

SEED = 20261127
SIZE = (64, 64)
LIMITS = PhotoLimits()
# What the camera stores is the upright picture turned the other way.
STORED_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def scene(width: int, height: int, seed: int = SEED) -> Image.Image:
    """Detail of every size, less of the finer and of colour, as photos have it."""
    rng = np.random.default_rng(seed)
    total = np.full((height, width, 3), 128.0)
    for side in (5, 11, 23, 47, 95, 191):
        grain = Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8))
        layer = np.asarray(grain.resize((width, height), Image.Resampling.BICUBIC), float) - 128
        # Coarse parts have colour, the others are grey.
        total += (layer if side < 20 else layer[..., :1] + 0.1 * layer) * 2.5 / side**0.5
    return Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image, orientation: int = 1, **options: Any) -> bytes:
    file = io.BytesIO()
    tags = Image.Exif()
    tags[274] = orientation
    image.save(file, "JPEG", **{"quality": 92, "exif": tags, **options})
    return file.getvalue()


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def scaled(data: bytes, size: tuple[int, int] = SIZE, limits: PhotoLimits = LIMITS) -> LoadedPhoto:
    return load_photo(data, limits, need=Need(size))


def difference(one: Image.Image | NDArray[np.uint8], other: Image.Image | NDArray[np.uint8]) -> float:
    """Root mean square, in grey levels."""
    return float(np.sqrt(np.mean((np.asarray(one, float) - np.asarray(other, float)) ** 2)))


# How far


@pytest.mark.parametrize(
    ("width", "height", "scale"),
    [
        (8256, 5504, 8),
        (6000, 4000, 8),
        (4000, 6000, 8),
        (4000, 3000, 8),
        (2900, 2900, 4),
        (2048, 1536, 2),
        (896, 896, 2),
        (895, 2000, 1),
        (227, 227, 1),
        (1, 60_000, 1),
    ],
)
def test_a_photo_is_reduced_as_far_as_enough_is_left(width: int, height: int, scale: int) -> None:
    need = Need((256, 256))
    assert jpeg_scale(need, width, height) == scale
    assert scale == 1 or min(width, height) / scale >= 1.45 * 256


def test_of_a_region_as_much_is_left_as_of_a_whole_frame() -> None:
    assert jpeg_scale(Need((256, 256), region=(0.4, 1.0)), 6000, 4000) == 4
    assert jpeg_scale(Need((256, 256), region=(0.1, 0.1)), 6000, 4000) == 1


def test_a_network_that_is_not_square_has_enough_along_both_axes() -> None:
    assert jpeg_scale(Need((256, 512)), 6000, 4000) == 8
    assert jpeg_scale(Need((512, 256)), 6000, 4000) == 4


def test_a_way_to_decode_that_there_is_not_is_refused() -> None:
    assert [check_mode(mode) for mode in DECODE_MODES] == list(DECODE_MODES)
    with pytest.raises(InvalidInputError, match="'half' is none of scaled, full, preview"):
        check_mode("half")


# What it gives


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("width", "height"), [(1003, 751), (771, 1001), (503, 377), (253, 241)])
def test_a_reduced_photo_gives_the_network_what_the_whole_one_does(
    width: int, height: int, orientation: int
) -> None:
    image = scene(width, height)
    stored = image.transpose(STORED_BY[orientation]) if orientation in STORED_BY else image
    data = jpeg(stored, orientation, subsampling=2)
    loaded = scaled(data)
    assert loaded.size == (width, height)
    assert loaded.scale == jpeg_scale(Need(SIZE), width, height) > 1
    assert loaded.decoded == f"scaled 1/{loaded.scale}"
    whole = resize(open_photo(data), SIZE)
    assert difference(resize_loaded(loaded, SIZE, exact=False), whole) < 1.5


@pytest.mark.parametrize(("width", "height"), [(1003, 751), (771, 1001), (523, 467)])
def test_what_the_reduction_takes_off_is_put_back(width: int, height: int) -> None:
    data = jpeg(scene(width, height), subsampling=0)
    loaded, whole = scaled(data), resize(open_photo(data), SIZE)
    plain = loaded.image.resize(SIZE, Image.Resampling.BICUBIC, box=loaded.frame)
    shifted = resize(loaded.image, SIZE)
    found = difference(resize_loaded(loaded, SIZE, exact=False), whole)
    assert found < 0.9 * difference(plain, whole) < difference(shifted, whole)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1}, {"progressive": True}])
def test_every_kind_of_jpeg_keeps_its_colours(mode: str, options: dict[str, Any]) -> None:
    if mode == "L" and "subsampling" in options:
        options = {}
    data = jpeg(scene(1003, 751).convert(mode), **options)
    loaded = scaled(data)
    assert loaded.image.mode == "RGB"
    assert loaded.scale == 8
    # Where colour is stored at half the width only, the decoder reduces it twice as far as it has to.
    most = 4.0 if options.get("subsampling") == 1 else 1.5
    assert difference(resize_loaded(loaded, SIZE, exact=False), resize(open_photo(data), SIZE)) < most


def test_a_large_photo_that_cannot_be_reduced_as_it_is_decoded_is_reduced_before_it_is_resized() -> None:
    image = scene(1003, 751)
    loaded = scaled(png(image))
    assert (loaded.scale, loaded.decoded, loaded.image.size) == (1, "full", (1003, 751))
    whole = resize(image, SIZE)
    np.testing.assert_array_equal(resize_loaded(loaded, SIZE, exact=True), whole)
    assert 0 < difference(resize_loaded(loaded, SIZE, exact=False), whole) < 1.5
    assert reduced_by(751 / 64) == 6


def test_a_small_photo_is_the_same_either_way() -> None:
    data = jpeg(scene(100, 90))
    loaded = scaled(data)
    assert (loaded.scale, loaded.decoded) == (1, "full")
    np.testing.assert_array_equal(resize_loaded(loaded, SIZE, exact=False), resize(open_photo(data), SIZE))


@pytest.mark.parametrize("region", [(0, 0, 500, 400), (503, 251, 1003, 751), (317, 199, 900, 611)])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_region_of_a_reduced_photo_is_that_of_the_whole_one(
    region: tuple[int, int, int, int], orientation: int
) -> None:
    image = scene(1003, 751)
    stored = image.transpose(STORED_BY[orientation]) if orientation in STORED_BY else image
    data = jpeg(stored, orientation)
    share = ((region[2] - region[0]) / 1003, (region[3] - region[1]) / 751)
    loaded = load_photo(data, LIMITS, need=Need(SIZE, region=share))
    assert loaded.scale in (2, 4)
    whole = resize(open_photo(data).crop(region), SIZE)
    assert difference(resize_loaded(loaded, SIZE, region, exact=False), whole) < 1.5


def test_a_region_of_a_whole_photo_is_exact() -> None:
    data = jpeg(scene(300, 200))
    loaded = load_photo(data, LIMITS, need=Need(SIZE, "full"))
    region = (17, 33, 250, 120)
    np.testing.assert_array_equal(
        resize_loaded(loaded, SIZE, region, exact=True), resize(open_photo(data).crop(region), SIZE)
    )


# Sharpening


def naive_sharpening(values: NDArray[np.uint8], across: float, down: float) -> NDArray[np.uint8]:
    x = np.asarray(Image.fromarray(values).convert("L"), int)
    padded = np.pad(x, 1, "edge")
    weight_across, weight_down = (round(512 * 1.2 / (24 * ratio**2)) for ratio in (across, down))
    horizontal = 2 * x - padded[1:-1, :-2] - padded[1:-1, 2:]
    vertical = 2 * x - padded[:-2, 1:-1] - padded[2:, 1:-1]
    detail = (horizontal * weight_across + vertical * weight_down + 256) // 512
    out = values.astype(int) + detail[..., None]
    return np.asarray(np.clip(out, 0, 255), np.uint8)


@pytest.mark.parametrize(("across", "down"), [(1.0, 1.0), (1.45, 2.2), (1.75, 1.75), (3.4, 1.5)])
def test_sharpening_is_what_its_definition_says(across: float, down: float) -> None:
    rng = np.random.default_rng(SEED)
    values = rng.choice(np.array([0, 3, 128, 250, 255], np.uint8), (24, 31, 3))
    found = np.asarray(sharpened(Image.fromarray(values), across, down))
    np.testing.assert_array_equal(found, naive_sharpening(values, across, down))


def test_sharpening_leaves_one_colour_as_it_is() -> None:
    for value in (0, 77, 255):
        flat = Image.new("RGB", (20, 10), (value, 255 - value, 9))
        assert sharpened(flat, 1.5, 1.5).tobytes() == flat.tobytes()


# Bad files


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_reduced_photo_that_ends_early_is_truncated(share: float, progressive: bool) -> None:
    data = jpeg(scene(1003, 751), progressive=progressive)
    for mode in DECODE_MODES:
        with pytest.raises(PhotoError) as caught:
            load_photo(data[: int(share * len(data))], LIMITS, need=Need(SIZE, mode))
        assert (caught.value.stage, caught.value.code) == ("decode", "truncated")


def test_the_limit_on_pixels_is_on_the_whole_size() -> None:
    data = jpeg(scene(1003, 751))
    assert scaled(data, limits=PhotoLimits(max_pixels=1003 * 751)).scale == 8
    with pytest.raises(PhotoError) as caught:
        scaled(data, limits=PhotoLimits(max_pixels=1003 * 751 - 1))
    assert caught.value.code == "too-many-pixels"


def test_a_scan_bomb_ends_at_the_deadline_when_reduced_too() -> None:
    file = io.BytesIO()
    Image.new("L", (2000, 2000), 90).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    start = data.rindex(b"\xff\xda")
    bomb = data[:start] + data[start:-2] * 30_000 + data[-2:]
    with pytest.raises(PhotoError) as caught:
        scaled(bomb, limits=PhotoLimits(deadline_s=0.4))
    assert caught.value.code == "deadline"


def test_random_damage_ends_in_a_photo_or_a_photo_error() -> None:
    rng = np.random.default_rng(SEED)
    data = jpeg(scene(403, 311), 6)
    for _ in range(60):
        damaged = bytearray(data)
        for place in rng.integers(2, len(data), 4):
            damaged[place] = int(rng.integers(0, 256))
        try:
            loaded = scaled(bytes(damaged), limits=PhotoLimits(max_pixels=1_000_000, deadline_s=5))
            assert resize_loaded(loaded, SIZE, exact=False).size == SIZE
        except PhotoError:
            pass
