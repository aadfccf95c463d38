from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.model.config import RgbStats
from birdsearch.model.images.resizing import resize
from birdsearch.model.preprocess import normalise, preprocessing_id

STATS = RgbStats((0.5191, 0.5306, 0.4877), (0.2316, 0.2304, 0.2588))


def _image(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    noise = rng.integers(0, 256, (height, width, 3)).astype(np.float64)
    ramp = np.linspace(0, 255, width)[None, :, None]
    return Image.fromarray(((noise + ramp) / 2 if rng.random() < 0.5 else noise).astype(np.uint8))


def test_the_input_is_bit_for_bit_birders() -> None:
    birder = pytest.importorskip("birder")
    seed = 20
    rng = np.random.default_rng(seed)
    sizes = [(1, 1), (1, 2000), (2000, 1), (256, 256), (256, 300), (255, 257), (3, 5), (1500, 1100)]
    sizes += [(int(w), int(h)) for w, h in rng.integers(1, 700, (40, 2))]
    for size in [(256, 256), (48, 80)]:
        transform = birder.classification_transform(size, {"mean": STATS.mean, "std": STATS.std})
        for width, height in sizes:
            image = _image(rng, width, height)
            pixels = resize(image, size)
            assert pixels.shape == (*size, 3)
            assert pixels.flags.c_contiguous
            ours = normalise(pixels[None], STATS)[0]
            assert ours.dtype == np.float32
            assert np.array_equal(ours, transform(image).numpy()), (
                f"seed {seed}: {width} x {height} to {size}"
            )


def test_every_pixel_value_is_normalised_as_birder_does() -> None:
    birder = pytest.importorskip("birder")
    rng = np.random.default_rng(21)
    for _ in range(20):
        mean, std = rng.uniform(0, 1, 3).round(4), rng.uniform(0.1, 1, 3).round(4)
        stats = RgbStats((mean[0], mean[1], mean[2]), (std[0], std[1], std[2]))
        pixels = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
        transform = birder.classification_transform((16, 16), {"mean": mean.tolist(), "std": std.tolist()})
        assert np.array_equal(normalise(pixels[None], stats)[0], transform(Image.fromarray(pixels)).numpy())


def test_a_batch_is_normalised_photo_by_photo() -> None:
    pixels = np.random.default_rng(22).integers(0, 256, (5, 8, 12, 3), dtype=np.uint8)
    batch = normalise(pixels, STATS)
    assert batch.shape == (5, 3, 8, 12)
    assert batch.flags.c_contiguous
    for index in range(5):
        assert np.array_equal(batch[index], normalise(pixels[index : index + 1], STATS)[0])
    expected = (pixels / 255.0 - np.array(STATS.mean)) / np.array(STATS.std)
    np.testing.assert_allclose(batch, expected.transpose(0, 3, 1, 2), atol=1e-6)
    assert normalise(pixels[:0], STATS).shape == (0, 3, 8, 12)


def test_what_is_not_rgb_or_has_no_size_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="got L"):
        resize(Image.new("L", (4, 4)), (8, 8))
    with pytest.raises(InvalidInputError, match="0 x 8"):
        resize(Image.new("RGB", (4, 4)), (0, 8))
    with pytest.raises(InvalidInputError, match="uint8"):
        normalise(np.zeros((1, 4, 4, 3), dtype=np.float32), STATS)
    with pytest.raises(InvalidInputError, match="uint8"):
        normalise(np.zeros((4, 4, 3), dtype=np.uint8), STATS)


def test_the_name_of_the_preprocessing_tells_sizes_and_statistics_apart() -> None:
    name = preprocessing_id((256, 256), STATS)
    assert name == "rgb-bicubic-256x256/mean=0.5191,0.5306,0.4877/std=0.2316,0.2304,0.2588"
    assert (
        len(
            {
                name,
                preprocessing_id((256, 240), STATS),
                preprocessing_id((256, 256), RgbStats(STATS.std, STATS.mean)),
            }
        )
        == 3
    )


@pytest.mark.photos
@pytest.mark.skipif("BIRDSEARCH_TEST_PHOTOS" not in os.environ, reason="BIRDSEARCH_TEST_PHOTOS is not set")
def test_the_input_is_bit_for_bit_birders_on_real_photos() -> None:
    birder = pytest.importorskip("birder")
    folder = Path(os.environ["BIRDSEARCH_TEST_PHOTOS"])
    photos = sorted(folder.glob("cub/query/*/*.jpg"))[::30] + sorted(folder.glob("aves/*/*.jpg"))[::6]
    assert photos
    transform = birder.classification_transform((256, 256), {"mean": STATS.mean, "std": STATS.std})
    for photo in photos:
        with Image.open(photo) as opened:
            image = opened.convert("RGB")
        assert np.array_equal(
            normalise(resize(image, (256, 256))[None], STATS)[0], transform(image).numpy()
        ), photo
