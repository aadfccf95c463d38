from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.model.features import feature_picture


def _maps(seed: int, shape: tuple[int, ...] = (16, 8, 8)) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {f"stage{number}": rng.normal(size=shape).astype(np.float32) for number in (1, 2, 3, 4)}


def _tiles(picture: Image.Image, side: int, row: int) -> list[np.ndarray]:
    """The pixels of a row of square tiles, found by the layout: margin 20, gap 12, title 26."""
    pixels = np.asarray(picture)
    top = 20 + 26 + row * (side + 26 + 12)
    return [pixels[top : top + side, 20 + column * (side + 12) :][:, :side] for column in range(5)]


def test_the_picture_shows_the_photo_and_two_tiles_a_stage() -> None:
    photo = Image.new("RGB", (300, 300), (10, 200, 30))
    picture = feature_picture(photo, _maps(60))
    assert picture.mode == "RGB"
    assert picture.size == (2 * 20 + 5 * 288 + 4 * 12, 2 * 20 + 2 * (26 + 288) + 12)
    first = _tiles(picture, 288, 0)
    assert (first[0] == (10, 200, 30)).all()
    for tile in [*first[1:], *_tiles(picture, 288, 1)[1:]]:
        assert tile.reshape(-1, 3).std(axis=0).min() > 5


def test_places_that_differ_for_the_network_differ_in_colour() -> None:
    maps = _maps(61)
    rng = np.random.default_rng(61)
    for values in maps.values():
        values *= 0.05
        values[:, :, :4] += rng.normal(size=(16, 1, 1)).astype(np.float32)
        values[:, 3, 6] += 20
    picture = feature_picture(Image.new("RGB", (64, 64)), maps)
    for tile in _tiles(picture, 288, 0)[1:]:
        left, right = tile[:, :130].mean(axis=(0, 1)), tile[:, 158:].mean(axis=(0, 1))
        assert np.abs(left - right).max() > 40
    for tile in _tiles(picture, 288, 1)[1:]:
        brightness = tile.sum(axis=2)
        # The one place that stands out, in row 3 and column 6 of 8.
        assert brightness[126, 234] > np.percentile(brightness, 90)


def test_the_same_maps_give_the_same_picture() -> None:
    photo = Image.new("RGB", (120, 80), (90, 90, 90))
    maps = _maps(62)
    first = feature_picture(photo, maps)
    again = feature_picture(photo, {name: values[None].copy() for name, values in maps.items()})
    assert first.tobytes() == again.tobytes()
    assert photo.size == (120, 80)


@pytest.mark.parametrize("size", [(40, 400), (400, 40), (1, 1), (1, 3000), (257, 199)])
def test_a_photo_of_any_aspect_is_drawn(size: tuple[int, int]) -> None:
    picture = feature_picture(Image.new("RGB", size), _maps(63, (4, 3, 5)))
    assert picture.width >= 2 * 20 + 5 * 224 + 4 * 12
    assert picture.width < 2000
    assert picture.height < 1000


def test_a_map_that_is_the_same_everywhere_is_drawn() -> None:
    feature_picture(Image.new("RGB", (50, 50)), {"stage1": np.ones((8, 4, 4), dtype=np.float32)})
    feature_picture(Image.new("RGB", (50, 50)), {"stage1": np.ones((8, 1, 1), dtype=np.float32)})


@pytest.mark.parametrize(
    ("maps", "message"),
    [
        ({}, "no feature maps"),
        (
            {"stage1": np.zeros((2, 8, 4, 4), dtype=np.float32)},
            r"stage1 must be \(C, h, w\) .* got \(2, 8, 4, 4\)",
        ),
        ({"stage1": np.zeros((2, 4, 4), dtype=np.float32)}, "C at least 3"),
        ({"stage1": np.zeros((8, 0, 4), dtype=np.float32)}, "stage1 must be"),
        ({"stage1": np.full((8, 4, 4), np.nan, dtype=np.float32)}, "stage1 holds values that are not finite"),
    ],
)
def test_maps_that_cannot_be_drawn_are_refused(maps: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        feature_picture(Image.new("RGB", (50, 50)), maps)
