"""TIFFs of kinds that Pillow reads wrongly or not at all, read with its help or refused by name.

Pillow takes samples of 16 bits in separate planes for interleaved ones, which gives noise, and passes over that
white is zero in grey of more than 8 bits, which gives a negative. Each plane alone is a grey picture that it reads
well, however it is compressed: a directory that describes just that plane is put behind the file, and the planes
are joined.

Source: TIFF revision 6.0 (1992), sections 2 and 8; Adobe, "BigTIFF" (2011).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageOps, TiffImagePlugin

from birdsearch.errors import PhotoError
from birdsearch.model.images.file_io import TimedSource
from birdsearch.model.images.pixels import to_rgb

__all__ = ["PlanarTiff", "open_tiff", "sample_bits"]

_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PLANAR, _EXTRA, _FORMAT = 258, 259, 262, 277, 284, 338, 339
_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES = 273, 279, 324, 325
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK = 0, 1, 2, 5
_PHOTOMETRICS = {
    0: "grey",
    1: "grey",
    2: "RGB",
    3: "palette",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "ICCLAB",
}
_UNSIGNED, _FLOAT = 1, 3
_PREMULTIPLIED, _ALPHA = 1, 2
# What libtiff is mostly built without.
_COMPRESSIONS = {
    **dict.fromkeys((33003, 33004, 33005, 34712), "JPEG 2000"),
    **dict.fromkeys((50002, 52546), "JPEG XL"),
    34887: "LERC",
    50001: "WebP",
}
_CODES = {1: "B", 3: "H", 4: "I", 16: "Q"}
_MOST_VALUES = 1 << 22


@dataclass(frozen=True, slots=True)
class _Directory:
    """The first directory of a TIFF.

    Attributes:
        order: `<` or `>`.
        is_big: Offsets and counts have 64 bits.
        entries: Kind, count, and the four or eight bytes that are the values or point at them, by tag.
        data: The whole file.
    """

    order: str
    is_big: bool
    entries: dict[int, tuple[int, int, bytes]]
    data: bytes

    @classmethod
    def read(cls, data: bytes) -> _Directory:
        """Read it; raises `struct.error` or `ValueError` where the file is damaged."""
        order = "<" if data[:2] == b"II" else ">"
        (version,) = struct.unpack_from(order + "H", data, 2)
        is_big = version == 43
        (at,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
        (count,) = struct.unpack_from(order + ("Q" if is_big else "H"), data, at)
        at += 8 if is_big else 2
        row, size = order + ("HHQ8s" if is_big else "HHI4s"), 20 if is_big else 12
        if at + count * size > len(data):
            raise ValueError("the directory reaches past the end")
        rows = (struct.unpack_from(row, data, at + size * number) for number in range(count))
        return cls(order, is_big, {tag: (kind, length, value) for tag, kind, length, value in rows}, data)

    def values(self, tag: int, default: Sequence[int] = ()) -> tuple[int, ...]:
        """Return the whole numbers of a tag."""
        if tag not in self.entries:
            return tuple(default)
        kind, count, value = self.entries[tag]
        if kind not in _CODES or count > _MOST_VALUES:
            raise ValueError(f"tag {tag} is of a kind that it cannot be")
        code = f"{self.order}{count}{_CODES[kind]}"
        if struct.calcsize(code) <= len(value):
            return struct.unpack_from(code, value)
        (at,) = struct.unpack(self.order + ("Q" if self.is_big else "I"), value)
        return struct.unpack_from(code, self.data, at)

    def with_tags(self, changed: dict[int, tuple[int, ...]]) -> bytes:
        """Return the file with a new first directory at its end, in which some tags have other values, or none."""
        wide, code, kind = (8, "Q", 16) if self.is_big else (4, "I", 4)
        start = len(self.data) + len(self.data) % 2
        rows = dict(self.entries)
        for tag, values in changed.items():
            rows.pop(tag, None)
            if values:
                rows[tag] = (kind, len(values), b"")
        head = struct.pack(self.order + ("Q" if self.is_big else "H"), len(rows))
        behind = start + len(head) + len(rows) * (20 if self.is_big else 12) + wide
        table, far = b"", b""
        for tag in sorted(rows):
            kind, count, value = rows[tag]
            if tag in changed:
                value = struct.pack(f"{self.order}{count}{code}", *changed[tag])
                if len(value) > wide:
                    value, far = struct.pack(self.order + code, behind + len(far)), far + value
            table += struct.pack(self.order + "HH" + code, tag, kind, count) + value.ljust(wide, b"\0")
        first = struct.pack(self.order + code, start)
        header = self.data[:8] + first if self.is_big else self.data[:4] + first
        body = self.data[len(header) :].ljust(start - len(header), b"\0")
        return b"".join((header, body, head, table, bytes(wide), far))


@dataclass(frozen=True, slots=True)
class _Layout:
    """How the samples of a TIFF lie and what they are."""

    bits: tuple[int, ...]
    samples: int
    photometric: int
    is_planar: bool
    formats: tuple[int, ...]
    extra: tuple[int, ...]
    compression: int

    @classmethod
    def of(cls, directory: _Directory) -> _Layout:
        samples = directory.values(_SAMPLES, (1,))[0]
        bits, formats = directory.values(_BITS, (1,)), directory.values(_FORMAT, (_UNSIGNED,))
        if not bits or not formats:
            raise ValueError("a tag has no value")
        return cls(
            bits=bits,
            samples=samples,
            photometric=directory.values(_PHOTOMETRIC, (_WHITE_IS_ZERO,))[0],
            is_planar=samples > 1 and directory.values(_PLANAR, (1,))[0] == 2,
            formats=formats,
            extra=directory.values(_EXTRA),
            compression=directory.values(_COMPRESSION, (1,))[0],
        )

    @property
    def described(self) -> str:
        kind = _PHOTOMETRICS.get(self.photometric, f"photometric {self.photometric}")
        what = " floating-point" if _FLOAT in self.formats else ""
        planes = " in separate planes" if self.is_planar else ""
        extra = " and further channels" if self.extra else ""
        packed = _COMPRESSIONS.get(self.compression)
        return f"{max(self.bits)}-bit{what} {kind}{extra}{planes}" + (
            f", {packed}-compressed," if packed else ""
        )

    @property
    def is_misread(self) -> bool:
        """Pillow does not read it, or reads something else than what is there; see `PlanarTiff`."""
        if self.is_planar:
            is_plain = self.photometric in (_RGB, _CMYK) and set(self.extra) <= {_ALPHA}
            return not (is_plain and set(self.bits) == {8})
        return self.photometric == _WHITE_IS_ZERO and self.samples == 1 and self.bits[0] > 8

    @property
    def has_planes(self) -> bool:
        """`PlanarTiff` reads it."""
        if not self.is_planar:
            return True
        is_whole = set(self.bits) <= {8, 16} and set(self.formats) == {_UNSIGNED} and len(set(self.bits)) == 1
        return is_whole and self.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _CMYK)


class PlanarTiff(TiffImagePlugin.TiffImageFile):
    """A TIFF of which Pillow sees one plane, with the metadata of all of it.

    Args:
        directory: Its directory.
        layout: Its samples.
        source: What the deadline is taken from.
    """

    def __init__(self, directory: _Directory, layout: _Layout, source: TimedSource) -> None:
        self._directory = directory
        self._layout = layout
        self._deadline = source.deadline
        super().__init__(self._plane(0))

    def _plane(self, number: int) -> TimedSource:
        """Return a file that holds one plane alone."""
        layout, directory = self._layout, self._directory
        bits = layout.bits[min(number, len(layout.bits) - 1)]
        changed: dict[int, tuple[int, ...]] = {
            _BITS: (bits,),
            _PHOTOMETRIC: (_BLACK_IS_ZERO,),
            _SAMPLES: (1,),
            _PLANAR: (1,),
            _EXTRA: (),
            _FORMAT: layout.formats[:1],
        }
        for tag in (_STRIPS, _STRIP_BYTES, _TILES, _TILE_BYTES) if layout.is_planar else ():
            values = directory.values(tag)
            share = len(values) // layout.samples
            changed[tag] = values[number * share : (number + 1) * share]
        return TimedSource(directory.with_tags(changed), self._deadline)

    @property
    def joined_mode(self) -> str:
        """The mode of what `pixels` gives."""
        layout = self._layout
        mode = {_RGB: "RGB", _CMYK: "CMYK"}.get(layout.photometric, "L")
        if layout.is_planar and mode != "CMYK":
            mode += {_ALPHA: "A", _PREMULTIPLIED: "a"}.get(next(iter(layout.extra), 0), "")
        return mode

    def pixels(self) -> Image.Image:
        """Return the picture of all planes, 8 bits a channel."""
        layout, mode = self._layout, self.joined_mode
        names = Image.getmodebands(mode)
        if layout.samples < names:
            raise ValueError(f"{layout.samples} planes are too few")
        bands = []
        for number in range(names):
            plane = TiffImagePlugin.TiffImageFile(self._plane(number))
            bits = sample_bits(plane)
            plane.load()
            bands.append(to_rgb(plane, bits).getchannel(0))
        if layout.photometric == _WHITE_IS_ZERO:
            bands[0] = ImageOps.invert(bands[0])
        return Image.merge(mode, bands)


def open_tiff(source: TimedSource) -> TiffImagePlugin.TiffImageFile:
    """Open a TIFF without decoding it.

    Raises:
        PhotoError: Its samples are of a kind that is not read (`unsupported-format`).
        Exception: What Pillow raises for a damaged file.
    """
    data = source.getvalue()
    try:
        directory = _Directory.read(data)
        layout = _Layout.of(directory)
    except (struct.error, ValueError, IndexError):
        # Pillow says better what is wrong with it.
        return TiffImagePlugin.TiffImageFile(source)
    if layout.compression in _COMPRESSIONS or (layout.is_misread and not layout.has_planes):
        raise _unsupported(layout)
    if layout.is_misread:
        try:
            return PlanarTiff(directory, layout, source)
        except SyntaxError as error:
            raise _unsupported(layout) from error
    try:
        return TiffImagePlugin.TiffImageFile(source)
    except SyntaxError as error:
        if "unknown" in str(error):
            raise _unsupported(layout) from error
        raise


def _unsupported(layout: _Layout) -> PhotoError:
    reason = (
        f"a TIFF that holds {layout.described} is not read; save it as TIFF of 8 or 16 bits in RGB or grey, or as"
        " JPEG or PNG"
    )
    return PhotoError("format", "unsupported-format", reason)


def sample_bits(image: Image.Image) -> int | None:
    """Return the bits of a sample, where an opened TIFF's mode does not give them: see `to_rgb`.

    It has to be asked before the image is loaded: Pillow drops these tags then.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return None
    bits, kinds = image.tag_v2.get(_BITS), image.tag_v2.get(_FORMAT, (_UNSIGNED,))
    if not isinstance(bits, tuple) or not bits or not isinstance(bits[0], int):
        return None
    return None if bits[0] == 32 and kinds != (_UNSIGNED,) else bits[0]
