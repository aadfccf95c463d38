"""Photos in other colour spaces than sRGB, in the catalog."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from birdsearch.indexer.decode import decode_photo
from birdsearch.model.color import ADOBE_RGB, DISPLAY_P3

SEED = 20261130


def scene(seed: int = SEED, size: tuple[int, int] = (300, 200)) -> Image.Image:
    small = np.random.default_rng(seed).integers(40, 210, (18, 26, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BOX)


def encode(image: Image.Image, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=97, subsampling=0, **options)
    return file.getvalue()


def stored_in(image: Image.Image, profile: bytes) -> bytes:
    """An sRGB picture as a camera that is set to another colour space stores it."""
    target = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    converted = ImageCms.profileToProfile(
        image, ImageCms.createProfile("sRGB"), target, ImageCms.Intent.RELATIVE_COLORIMETRIC, "RGB"
    )
    assert converted is not None
    return encode(converted, icc_profile=profile)


@pytest.mark.parametrize("decode", ["scaled", "full", "preview"])
@pytest.mark.parametrize("profile", [ADOBE_RGB, DISPLAY_P3], ids=["adobe", "p3"])
def test_pixels_hash_and_sharpness_are_those_of_the_srgb_picture(profile: bytes, decode: str) -> None:
    plain, wide = (
        decode_photo(data, input_size=(64, 64), decode=decode)
        for data in (encode(scene()), stored_in(scene(), profile))
    )
    assert np.abs(plain.pixels.astype(int) - wide.pixels).mean() < 1
    assert (int.from_bytes(plain.phash) ^ int.from_bytes(wide.phash)).bit_count() <= 2
    assert wide.sharpness == pytest.approx(plain.sharpness, rel=0.02)
