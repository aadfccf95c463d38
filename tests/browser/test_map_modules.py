"""The parts of the maps that compute: points by place, colours that stay apart, marks in pixels, the projection."""

from __future__ import annotations

import base64
import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tests.browser.conftest import Gallery, OpenPage

_SEED = 11
_POINTS = 4000

# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency", 2009:
# what is seen with full protanopia, deuteranopia and tritanopia, in linear RGB.
_SIGHTS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
# Ottosson, "A perceptual color space for image processing", 2020.
_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_OKLAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def _map_bytes() -> tuple[bytes, dict[str, NDArray[Any]]]:
    """A map as the API sends it, with points on the very edges, and its columns."""
    random = np.random.default_rng(_SEED)
    x, y = random.random((2, _POINTS)).astype("<f4")
    x[:4], y[:4] = [0, 1, 0, 1], [0, 0, 1, 1]
    cluster = random.integers(-1, 6, _POINTS).astype("<i4")
    photo = np.arange(1, _POINTS + 1, dtype="<i4")
    head = np.array([_POINTS], dtype="<u4").tobytes()
    columns = {"x": x, "y": y, "cluster": cluster, "photo": photo}
    return head + b"".join(column.tobytes() for column in columns.values()), columns


def _inside(x: NDArray[Any], y: NDArray[Any], loop: list[tuple[float, float]]) -> NDArray[np.bool_]:
    """The even-odd rule, point by point and edge by edge."""
    inside = np.zeros(len(x), dtype=bool)
    for (x1, y1), (x2, y2) in itertools.pairwise([*loop, loop[0]]):
        crosses = (y1 > y) != (y2 > y)
        with np.errstate(divide="ignore", invalid="ignore"):
            inside ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    return inside


def test_points_are_found_by_place_as_by_looking_at_all(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("photos"))
    sent, columns = _map_bytes()
    random = np.random.default_rng(_SEED + 1)
    places = [*random.uniform(-0.1, 1.1, (150, 2)).tolist(), [0, 0], [1, 1]]
    turns = np.linspace(0, 2 * math.pi, 20, endpoint=False)
    radii = random.uniform(0.1, 0.6, len(turns))
    loop = [(0.5 + r * math.cos(a), 0.5 + r * math.sin(a)) for r, a in zip(radii, turns, strict=True)]
    found = page.evaluate(
        """async ([text, places, loop]) => {
          const { readPoints, nearest, inLoop, inRectangle } = await import("/points.js");
          const points = readPoints(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer);
          const photo = (i) => (i < 0 ? null : points.photo[i]);
          return {
            nearest: places.map(([x, y]) => photo(nearest(points, x, y, 0.05))),
            loop: inLoop(points, loop).map(photo),
            half: inRectangle(points, [0, 0, 0.5, 1]).map(photo),
          };
        }""",
        [base64.b64encode(sent).decode(), places, loop],
    )
    x, y = columns["x"].astype(float), (1 - columns["y"]).astype(float)
    for (left, top), photo in zip(places, found["nearest"], strict=True):
        apart = np.hypot(x - left, y - top)
        assert photo == (int(columns["photo"][apart.argmin()]) if apart.min() < 0.05 else None)
    inside = _inside(x, y, loop)
    assert 0 < inside.sum() < _POINTS
    assert sorted(found["loop"]) == columns["photo"][inside].tolist(), f"seed {_SEED}"
    assert sorted(found["half"]) == columns["photo"][x <= 0.5].tolist()


def test_a_map_that_was_cut_short_is_refused(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("photos"))
    sent, _ = _map_bytes()
    said = page.evaluate(
        """async (text) => {
          const { readPoints } = await import("/points.js");
          try {
            return readPoints(Uint8Array.from(atob(text), (one) => one.charCodeAt(0)).buffer).count;
          } catch (error) {
            return error.message;
          }
        }""",
        base64.b64encode(sent[:-5]).decode(),
    )
    assert said == f"the map has {len(sent) - 5} bytes, which is not what {_POINTS} points take"


def _linear(colour: str) -> NDArray[np.float64]:
    value = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def _oklab(linear: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(_TO_OKLAB @ np.cbrt(_TO_CONES @ np.clip(linear, 0, 1)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_of_clusters_stay_apart_for_everybody(
    gallery: Gallery, open_page: OpenPage, scheme: str
) -> None:
    page = open_page(gallery.at("photos"), color_scheme=scheme)
    palette = page.evaluate("async () => (await import('/palette.js')).palette()")
    luminance = np.array([0.2126, 0.7152, 0.0722])
    ground = float(luminance @ _linear(palette["ground"]))
    for colour in (*palette["colours"], palette["none"]):
        darker, lighter = sorted((float(luminance @ _linear(colour)), ground))
        assert (lighter + 0.05) / (darker + 0.05) >= 3, colour
    for name, sight in _SIGHTS.items():
        seen = {colour: _oklab(sight @ _linear(colour)) for colour in palette["colours"]}
        for one, other in itertools.combinations(seen, 2):
            assert np.linalg.norm(seen[one] - seen[other]) >= 0.15, f"{one} and {other} with {name}"


def test_neighbours_on_the_map_differ_in_colour_and_keep_it(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("photos"))
    before, after = page.evaluate(
        """async () => {
          const { paint } = await import("/palette.js");
          const places = new Map();
          for (let id = 0; id < 100; id++) {
            places.set(id, { count: 100 - id, x: (id % 10) / 10, y: Math.floor(id / 10) / 10 });
          }
          const before = paint(places);
          places.delete(0);
          places.set(200, { count: 500, x: 0.01, y: 0 });
          const listed = (paints) => [...paints].map(([id, { colour, mark }]) => [id, [colour, mark]]);
          return [listed(before), listed(paint(places, before))];
        }"""
    )
    looks, later = dict(map(tuple, before)), dict(map(tuple, after))
    for place in range(100):
        beside = [place + 1] if place % 10 < 9 else []
        below = [place + 10] if place < 90 else []
        for other in beside + below:
            assert looks[place][0] != looks[other][0]
    assert {place: later[place] for place in range(1, 100)} == {
        place: looks[place] for place in range(1, 100)
    }
    assert later[200][0] not in (later[1][0], later[10][0], later[11][0])


def test_marks_cover_their_area_and_stop_at_the_edge(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("photos"))
    covered = page.evaluate(
        """async () => {
          const { Raster } = await import("/raster.js");
          const canvas = document.createElement("canvas");
          canvas.getContext("2d", { alpha: false, willReadFrequently: true });
          const raster = new Raster(canvas);
          const points = { x: Float32Array.of(0.5, 0, 1, 2), y: Float32Array.of(0.5, 0, 1, 0.5) };
          const how = { toPixels: [99.9, 0, 0], radius: 6, slot: new Int32Array(4), colours: Uint32Array.of(~0) };
          return [0, 1, 2, 3].map((mark) => {
            raster.start(100, 100, 1, 0xff000000);
            raster.paint(points, [[0, 4]], { ...how, marks: Uint8Array.of(mark) });
            raster.finish();
            const { data } = canvas.getContext("2d").getImageData(0, 0, 100, 100);
            const sums = [0, 0, 0];
            for (let i = 0; i < 10_000; i++) {
              const [x, y] = [i % 100, Math.floor(i / 100)];
              const share = data[4 * i] / 255;
              if (Math.max(Math.abs(x - 50), Math.abs(y - 50)) <= 10) sums[0] += share;
              if (x < 20 && y < 20) sums[1] += share;
              sums[2] += share;
            }
            return sums;
          });
        }"""
    )
    areas = [math.pi * 36, (2 * 0.86 * 6) ** 2, 1.95**2 / 2 * 36, 2 * 1.25**2 * 36]
    for (whole, corner, everything), area in zip(covered, areas, strict=True):
        assert whole == pytest.approx(area, rel=0.05)
        # Two marks are cut by a corner of the canvas, and one lies beyond it.
        assert 0 < corner < 0.65 * area
        assert whole + corner < everything < 2.3 * whole


def test_places_are_projected_there_and_back(gallery: Gallery, open_page: OpenPage) -> None:
    page = open_page(gallery.at("photos"))
    places: list[list[float]] = [[0, 0], [51.4779, -0.0015], [-54.8, -68.3], [85, 180], [-85, -180]]
    there, back, ratio, round_numbers = page.evaluate(
        """async (places) => {
          const { project, inverse, metresPerPixel, steps } = await import("/projection.js");
          const there = places.map(([lat, lon]) => project(lat, lon));
          const spans = [[34.1, 34.9], [-180, 180], [12.0001, 12.0009], [-3, 5]];
          return [there, there.map(([x, y]) => inverse(x, y)), metresPerPixel(60, 1) / metresPerPixel(0, 1),
            spans.map(([from, to]) => steps(from, to, 6))];
        }""",
        places,
    )
    assert there[0] == [0.5, 0.5]
    expected = 0.5 - math.asinh(math.tan(math.radians(51.4779))) / (2 * math.pi)
    assert there[1][1] == pytest.approx(expected, abs=1e-9)
    assert np.allclose(back, places, atol=1e-6)
    assert ratio == pytest.approx(0.5)
    for found in round_numbers:
        assert 2 <= len(found["values"]) <= 13
        for value in found["values"]:
            assert float(f"{value:.{found['digits']}f}") == pytest.approx(value, abs=1e-9)
