"""Fingerprints of photos (small pictures), and the test whether two of them show one picture.

Two photos are compared in three steps, each for the pairs that the one before leaves. A search over scales and
shifts on coarse, locally normalised pictures says whether and where one could lie in the other. Least squares on
brightness then place it to a fraction of a pixel. Last, what tone, colour and sharpening cannot explain is looked
at where it is greatest: frames of a burst are alike all over but at the bird, copies are alike everywhere.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import CatalogError, InvalidInputError
from birdsearch.search.dedup.alignment import (
    BLUE,
    LUMA,
    RED,
    SIDE,
    TURNS,
    Placed,
    Prepared,
    judged,
    quarters,
    reducer,
    search,
)

__all__ = ["FINGERPRINT_VERSION", "TURNS", "Comparison", "Fingerprint", "compare", "fingerprint", "prepared"]

FINGERPRINT_VERSION = 1

_Part = tuple[float, float, float, float]
_NOTHING = (0.0, 0.0, 0.0, 0.0)

_PIXELS, _CHROMA = 256, 48
_BYTES = SIDE * SIDE + 2 * _CHROMA * _CHROMA
_LEAST_COARSE = 0.5
# Pictures whose detail is less than this many grey levels (root mean square) say nothing.
_LEAST_DETAIL = 1.5


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprint:
    """A small picture of a photo.

    Attributes:
        width: Width of the upright photo in pixels; with the height it gives the shape that was squashed.
        height: Its height in pixels.
        luma: (96, 96) uint8, brightness (ITU-R 601-2).
        chroma: (2, 48, 48) uint8, blue and red colour differences; 128 is grey.

    NOTE: with 64 pixels a side, 5 % of the frame pairs of synthetic events differed no more than real copies
    do; with 96, 1 %. 128 gained little more and takes twice the time.
    """

    width: int
    height: int
    luma: NDArray[np.uint8]
    chroma: NDArray[np.uint8]

    def to_bytes(self) -> bytes:
        """Return version, width, height, CRC-32 and the compressed pixels."""
        luma, chroma = self.luma.copy(), self.chroma.copy()
        # Differences of neighbours compress better than values.
        luma[:, 1:] -= self.luma[:, :-1]
        chroma[:, :, 1:] -= self.chroma[:, :, :-1]
        body = zlib.compress(luma.tobytes() + chroma.tobytes(), 6)
        head = (
            bytes([FINGERPRINT_VERSION])
            + self.width.to_bytes(4, "little")
            + self.height.to_bytes(4, "little")
        )
        return head + zlib.crc32(head + body).to_bytes(4, "little") + body

    @staticmethod
    def from_bytes(data: bytes) -> Fingerprint:
        """Read what `to_bytes` wrote.

        Raises:
            CatalogError: The bytes are damaged, or of another version.
        """
        if len(data) < 13 or data[0] != FINGERPRINT_VERSION:
            what = f"version {data[0]}" if len(data) >= 13 else f"{len(data)} bytes"
            raise CatalogError(
                f"a fingerprint of {what} is not of version {FINGERPRINT_VERSION}; make it again"
            )
        head, body = data[:9], data[13:]
        try:
            if zlib.crc32(head + body) != int.from_bytes(data[9:13], "little"):
                raise CatalogError("a fingerprint is damaged: its checksum differs; make it again")
            reader = zlib.decompressobj()
            raw = reader.decompress(body, _BYTES + 1)
        except zlib.error as error:
            raise CatalogError(f"a fingerprint is damaged ({error}); make it again") from error
        width, height = int.from_bytes(head[1:5], "little"), int.from_bytes(head[5:9], "little")
        if len(raw) != _BYTES or not width or not height:
            raise CatalogError(
                f"a fingerprint is damaged: {len(raw)} pixels instead of {_BYTES}; make it again"
            )
        values = np.frombuffer(raw, np.uint8)
        # (9216,) -> (96, 96) and (4608,) -> (2, 48, 48)
        luma = values[: SIDE * SIDE].reshape(SIDE, SIDE)
        chroma = values[SIDE * SIDE :].reshape(2, _CHROMA, _CHROMA)
        return Fingerprint(
            width, height, np.cumsum(luma, axis=1, dtype=np.uint8), np.cumsum(chroma, axis=2, dtype=np.uint8)
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """The verdict whether a second photo is a copy of a first.

    Attributes:
        is_copy: They show one picture.
        similarity: 0..1; 1 is the same picture. Below one half where it is no copy.
        turn: How the first has to be turned to look like the second; one of `TURNS`.
        overlap: Left, top, width and height of the part of the first that the second shows, as parts of it.
        reason: Short words for a person.
        residual: The greatest difference that no edit explains, averaged over 5 % of a side, as a part of the
            contrast (the standard deviation); infinite if the pictures could not be laid upon each other.
    """

    is_copy: bool
    similarity: float
    turn: str
    overlap: _Part
    reason: str
    residual: float = np.inf


def fingerprint(pixels: NDArray[np.uint8], width: int, height: int) -> Fingerprint:
    """Return the small picture of a photo.

    Args:
        pixels: (256, 256, 3) uint8, RGB: the upright frame squashed to a square, as the indexer decodes it.
        width: Width of the upright frame in pixels, at least 1.
        height: Its height in pixels, at least 1.

    Raises:
        InvalidInputError: The pixels have another shape or type, or a size is not positive.
    """
    if pixels.shape != (_PIXELS, _PIXELS, 3) or pixels.dtype != np.uint8:
        raise InvalidInputError(
            f"a fingerprint needs pixels of (256, 256, 3) uint8, got {pixels.shape} {pixels.dtype}"
        )
    if not 1 <= width < 1 << 32 or not 1 <= height < 1 << 32:
        raise InvalidInputError(f"a photo must have at least 1 x 1 pixels, got {width} x {height}")
    colours = pixels.astype(np.float32)
    luma = np.einsum("yxc,c->yx", colours, LUMA)
    fine, coarse = reducer(_PIXELS, SIDE), reducer(_PIXELS, _CHROMA)
    differences = ((colours[..., 2] - luma) * BLUE, (colours[..., 0] - luma) * RED)
    chroma = np.stack([coarse @ each @ coarse.T for each in differences]) + 128
    return Fingerprint(width, height, _to_uint8(fine @ luma @ fine.T), _to_uint8(chroma))


def prepared(source: Fingerprint) -> Prepared:
    """Return what comparing a fingerprint needs, made once for many comparisons."""
    return Prepared(source.luma, source.chroma, source.width, source.height)


def compare(
    a: Fingerprint | Prepared, b: Fingerprint | Prepared, rotations: bool = False, *, residual: float = 0.22
) -> Comparison:
    """Compare two photos: whether they show one picture, up to edits.

    Edits are other sizes and encodings, crops and borders up to a seventh of a side, tone, white balance, grey,
    sharpening, and a caption on a strip. The answer is the same for (b, a), with the turn undone.

    Args:
        a: A photo, as it is or prepared.
        b: Another.
        rotations: Whether b may also be turned and mirrored.
        residual: The greatest difference of a copy (see `Comparison.residual`).
    """
    a, b = (each if isinstance(each, Prepared) else prepared(each) for each in (a, b))
    if min(a.detail, b.detail) < _LEAST_DETAIL:
        return Comparison(False, 0.0, "", _NOTHING, "too little structure to tell")
    # Always from the darker to the brighter one: what is clipped in one can be seen in the other, not back.
    is_swapped = b.order < a.order
    first, second = (b, a) if is_swapped else (a, b)
    starts = []
    for turn in TURNS if rotations else TURNS[:1]:
        turned = second.turned(turn if is_swapped else _inverse(turn))
        starts += [(score, turn, turned, part) for score, part in search(first, turned)]
    starts.sort(key=lambda start: (-start[0], TURNS.index(start[1])))
    best = starts[0][0]
    found: tuple[Placed, str] | None = None
    for score, turn, turned, part in starts[:3]:
        if score < max(_LEAST_COARSE, best - 0.15):
            break
        placed = judged(first, turned, part)
        if placed is not None and (found is None or placed.residual < found[0].residual):
            found = placed, turn
            if placed.residual <= residual:
                break
    if found is None:
        return Comparison(False, 0.4 * max(0.0, min(1.0, best)), "", _NOTHING, "another picture")
    return _comparison(*found, residual, (a, b), is_swapped=is_swapped)


def _comparison(
    placed: Placed, turn: str, residual: float, pair: tuple[Prepared, Prepared], *, is_swapped: bool
) -> Comparison:
    excess = placed.residual / residual
    overlap = _overlap(placed.part, turn, is_swapped=is_swapped)
    if excess > 1:
        changed = max(1, round(100 * placed.changed))
        reason = f"differs in places: {changed} % of the picture changed"
        return Comparison(False, 0.5 / excess, turn, overlap, reason, placed.residual)
    words = ["same picture"]
    if turn.startswith("mirror"):
        words.append("mirrored")
    if quarters(turn):
        words.append(f"turned by {90 * quarters(turn)} degrees")
    cropped = 1 - overlap[2] * overlap[3]
    if cropped >= 0.02:
        words.append(f"cropped by {100 * cropped:.0f} %")
    shared = _overlap(placed.part, "", is_swapped=not is_swapped)
    if 1 - shared[2] * shared[3] >= 0.02:
        words.append("with more around it")
    brightness = -placed.brightness if is_swapped else placed.brightness
    if abs(brightness) >= 8:
        words.append("brighter" if brightness > 0 else "darker")
    if pair[1].is_grey and not pair[0].is_grey:
        words.append("without colour")
    if placed.strip:
        words.append(f"but for a strip at the {placed.strip}")
    return Comparison(True, 1 - 0.5 * excess, turn, overlap, ", ".join(words), placed.residual)


def _overlap(part: NDArray[np.float64], turn: str, *, is_swapped: bool) -> _Part:
    """Return the part of the one picture that the other shows, on the one as it was before it was turned."""
    left, width, top, height = part
    if is_swapped:
        left, width, top, height = -left / width, 1 / width, -top / height, 1 / height
    corners = np.clip(np.array([[left, top], [left + width, top + height]]), 0.0, 1.0)
    if is_swapped:
        # The shifts are those of the first after its turn; the corners are turned back.
        name = _inverse(turn)
        if name.startswith("mirror"):
            corners[:, 0] = 1 - corners[:, 0]
        for _ in range(quarters(name)):
            corners = np.stack([1 - corners[:, 1], corners[:, 0]], axis=1)
    low, high = corners.min(0), corners.max(0)
    return float(low[0]), float(low[1]), float(high[0] - low[0]), float(high[1] - low[1])


def _inverse(turn: str) -> str:
    # A mirror image of any direction is its own inverse.
    return {"90": "270", "270": "90"}.get(turn, turn)


def _to_uint8(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
