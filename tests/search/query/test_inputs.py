"""Regions: parsed, checked and cut out."""

from __future__ import annotations

import pytest
from PIL import Image

from birdsearch.errors import InvalidInputError
from birdsearch.model.images.box import Box
from birdsearch.search.query.inputs import check_box, crop, parse_box


def corners(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Which pixels a region keeps: each pixel of the picture holds its own place."""
    width, height = size
    picture = Image.new("RGB", size)
    picture.putdata([(x, y, 0) for y in range(height) for x in range(width)])
    part = crop(picture, box)
    first, last = part.getpixel((0, 0)), part.getpixel((part.width - 1, part.height - 1))
    assert isinstance(first, tuple)
    assert isinstance(last, tuple)
    assert part.size == (last[0] - first[0] + 1, last[1] - first[1] + 1)
    return first[0], first[1], last[0] + 1, last[1] + 1


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (Box(), (0, 0, 10, 20)),
        (Box(0.1, 0.1, 0.2, 0.2), (1, 2, 3, 6)),
        # 0.1 + 0.2 is a little more than 0.3: no pixel more for that.
        (Box(0.24, 0.0, 0.5, 1.0), (2, 0, 7, 20)),
        (Box(0.25, 0.0, 0.5, 1.0), (3, 0, 8, 20)),
        (Box(0.26, 0.0, 0.5, 1.0), (3, 0, 8, 20)),
        (Box(0.5, 0.5, 1e-9, 1e-9), (5, 10, 6, 11)),
        (Box(0.9999, 0.9999, 0.0001, 0.0001), (9, 19, 10, 20)),
    ],
)
def test_each_edge_goes_to_the_nearest_border_between_pixels(box: Box, expected: tuple[int, ...]) -> None:
    assert corners(box, (10, 20)) == expected


def test_neighbouring_regions_share_no_pixel_and_leave_none_out() -> None:
    edges = [corners(Box(n / 7, 0.0, 1 / 7, 1.0), (100, 3)) for n in range(7)]
    assert [edge[0] for edge in edges[1:]] == [edge[2] for edge in edges[:-1]]
    assert (edges[0][0], edges[-1][2]) == (0, 100)


def test_a_region_is_parsed_and_rounding_is_forgiven() -> None:
    assert parse_box("0.25, 0.1,0.5,0.5") == Box(0.25, 0.1, 0.5, 0.5)
    assert check_box(Box(-1e-9, 0.0, 1.0, 1.0)) == Box()
    assert check_box(Box(0.7, 0.0, 0.3 + 1e-9, 1.0)) == Box(0.7, 0.0, 1 - 0.7, 1.0)


@pytest.mark.parametrize("text", ["", "1,2,3", "0,0,1,1,1", "a,b,c,d", "0;0;1;1"])
def test_text_that_is_no_region_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInputError, match=r"such as 0\.25,0\.1,0\.5,0\.5"):
        parse_box(text)
