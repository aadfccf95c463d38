"""Sources of labels other than tables: names of folders, and keywords in and beside photos."""

from __future__ import annotations

import fnmatch
import io
import os
import re
import stat
from collections.abc import Callable
from typing import Any
from xml.parsers import expat

from PIL import Image, IptcImagePlugin, UnidentifiedImageError

from birdsearch.model.images.photo import pillow_is_quiet

__all__ = [
    "KeywordError",
    "file_keywords",
    "folder_name",
    "glob_start",
    "matches_glob",
    "sidecar_keywords",
    "xmp_keywords",
]

# -- names of files and folders ------------------------------------------------------------------------------

_NUMBER_PREFIX = re.compile(r"\d+\s*[._\- ]\s*(?=[^\W\d])")
_MAGIC = re.compile(r"[*?\[]")


def folder_name(folder: str) -> str:
    """Return the name that a folder stands for: without the number before it, underscores as spaces.

    `001.Black_footed_Albatross` is "Black footed Albatross".
    """
    return " ".join(_NUMBER_PREFIX.sub("", folder, count=1).replace("_", " ").split()) or folder


def glob_start(pattern: str) -> tuple[str, str]:
    """Cut an absolute pattern where its first component with `*`, `?` or `[` begins.

    Returns:
        The folder before it, and the rest of the pattern; the rest is empty without any pattern.
    """
    parts = pattern.split("/")
    first = next((number for number, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    return "/".join(parts[:first]) or "/", "/".join(parts[first:])


def matches_glob(path: str, pattern: str) -> bool:
    """Return whether a path matches a pattern, component by component.

    `*`, `?` and `[...]` match within a component, as in a shell; `**` as a component matches any number of
    them, none included. Case counts.

    Args:
        path: A path with "/" between components.
        pattern: The pattern, of the same form.
    """
    parts = path.split("/")
    # Positions in `parts` at which the rest of the pattern may begin.
    starts = {0}
    components = pattern.split("/")
    for number, component in enumerate(components):
        if component == "**":
            # At the end of a pattern it needs something to match: the folder itself is no file in it.
            least = min(starts) + (number == len(components) - 1)
            starts = set(range(least, len(parts) + 1))
        else:
            starts = {
                start + 1
                for start in starts
                if start < len(parts) and fnmatch.fnmatchcase(parts[start], component)
            }
        if not starts:
            return False
    return len(parts) in starts


# -- keywords ------------------------------------------------------------------------------------------------

_MAX_METADATA = 1 << 20
# Those whose metadata Pillow itself reads; HEIF needs an extra, camera RAW has sidecars.
_KEYWORD_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")
_IPTC_KEYWORDS = (2, 25)
# What writers leave room with around a packet.
_PADDING = b"\x00 \t\r\n"
_SUBJECTS = (
    "http://purl.org/dc/elements/1.1/ subject",
    "http://ns.adobe.com/lightroom/1.0/ hierarchicalSubject",
    "http://www.digikam.org/ns/1.0/ TagsList",
    "http://ns.microsoft.com/photo/1.0/ LastKeywordXMP",
    "http://ns.iview-media.com/mediapro/1.0/ CatalogSets",
)
_LIST_ITEM = "http://www.w3.org/1999/02/22-rdf-syntax-ns# li"


class KeywordError(Exception):
    """Metadata of a photo are broken or too large; the text says which and why."""


def file_keywords(path: bytes) -> tuple[list[str], list[str]]:
    """Read the keywords embedded in a photo: IPTC, and XMP `dc:subject`, Lightroom's and digiKam's.

    Only the file's metadata are read, never its pixels.

    Args:
        path: The file.

    Returns:
        The keywords as they stand, those of XMP first, and what is broken about the metadata.

    Raises:
        KeywordError: The file cannot be opened.
    """
    keywords: list[str] = []
    problems: list[str] = []
    readers: tuple[Callable[[Image.Image], list[str]], ...] = (_embedded_xmp, _embedded_iptc)
    with pillow_is_quiet:
        try:
            with _open_regular(path) as file, Image.open(file, formats=_KEYWORD_FORMATS) as image:
                for read in readers:
                    try:
                        keywords += read(image)
                    except KeywordError as error:
                        problems.append(str(error))
        except UnidentifiedImageError:
            # A format that carries keywords in other ways; whether it is damaged is not asked here.
            return [], []
        except OSError as error:
            raise KeywordError(f"the file cannot be read: {error.strerror or error}") from error
        except Exception as error:
            raise KeywordError(f"the file is damaged: {error}") from error
    return keywords, problems


def sidecar_keywords(path: bytes) -> list[str]:
    """Read the keywords of an `.xmp` file beside a photo.

    Raises:
        KeywordError: It cannot be read, is too large or broken.
    """
    try:
        with _open_regular(path) as file:
            data = file.read(_MAX_METADATA + 1)
    except OSError as error:
        raise KeywordError(f"it cannot be read: {error.strerror or error}") from error
    if len(data) > _MAX_METADATA:
        raise KeywordError(f"it has more than {_MAX_METADATA} bytes, the limit")
    return xmp_keywords(data)


def _open_regular(path: bytes) -> io.BufferedReader:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError("it is not a regular file")
    return os.fdopen(descriptor, "rb")


def _embedded_xmp(image: Image.Image) -> list[str]:
    packet = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    if isinstance(packet, str):
        packet = packet.encode("utf-8", "surrogateescape")
    return xmp_keywords(packet) if isinstance(packet, bytes) else []


def xmp_keywords(packet: bytes) -> list[str]:
    """Return the keywords of an XMP packet, in their order.

    A document type is refused before anything it declares is looked at, so no entity is ever expanded.

    Args:
        packet: The packet, or a whole `.xmp` file; empty for none.

    Raises:
        KeywordError: It is larger than 1 MiB, is no well-formed XML, or has a document type.
    """
    if len(packet.strip(_PADDING)) > _MAX_METADATA:
        raise KeywordError(f"its XMP has more than {_MAX_METADATA} bytes, the limit")
    try:
        text = _xml_text(packet)
    except UnicodeDecodeError as error:
        raise KeywordError(f"its XMP is broken: {error}") from error
    if not text:
        return []
    reader = _XmpReader()
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.StartDoctypeDeclHandler = reader.refuse
    try:
        parser.Parse(text, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise KeywordError(f"its XMP is broken: {error}") from error
    return [keyword for keyword in reader.keywords if keyword]


def _xml_text(packet: bytes) -> bytes | str:
    """Return the packet without its padding: text if it is UTF-16, else bytes, whose encoding the XML declares."""
    for encoding, starts in (
        ("utf-16", (b"\xff\xfe", b"\xfe\xff")),
        ("utf-16-le", (b"<\x00",)),
        ("utf-16-be", (b"\x00<",)),
    ):
        if packet.startswith(starts):
            return packet[: len(packet) // 2 * 2].decode(encoding).strip(_PADDING.decode())
    return packet.strip(_PADDING)


class _XmpReader:
    """Collects the text of list items below the elements that hold keywords."""

    def __init__(self) -> None:
        self.keywords: list[str] = []
        self._depth = 0
        self._subject_depth = 0
        self._text: list[str] | None = None

    def start(self, name: str, _attributes: dict[str, str]) -> None:
        self._depth += 1
        if not self._subject_depth and name in _SUBJECTS:
            self._subject_depth = self._depth
        elif self._subject_depth and name == _LIST_ITEM:
            self._text = []

    def end(self, name: str) -> None:
        if name == _LIST_ITEM and self._text is not None:
            self.keywords.append(" ".join("".join(self._text).split()))
            self._text = None
        if self._depth == self._subject_depth:
            self._subject_depth = 0
        self._depth -= 1

    def text(self, data: str) -> None:
        if self._text is not None:
            self._text.append(data)

    def refuse(self, *_: object) -> None:
        raise KeywordError("its XMP has a document type, which is refused")


def _embedded_iptc(image: Image.Image) -> list[str]:
    try:
        fields: dict[Any, Any] = IptcImagePlugin.getiptcinfo(image) or {}  # type: ignore[arg-type]
    except Exception as error:
        raise KeywordError(f"its IPTC is broken: {error}") from error
    found = fields.get(_IPTC_KEYWORDS) or []
    values = [value for value in (found if isinstance(found, list) else [found]) if isinstance(value, bytes)]
    if sum(map(len, values)) > _MAX_METADATA:
        raise KeywordError(f"its IPTC has more than {_MAX_METADATA} bytes of keywords, the limit")
    keywords = []
    for value in values:
        try:
            text = value.decode("utf-8")
        except UnicodeDecodeError:
            # Before it could declare its encoding, the standard left it open; Western files have this one.
            text = value.decode("latin-1")
        keywords.append(" ".join(text.replace("\x00", " ").split()))
    return [keyword for keyword in keywords if keyword]
