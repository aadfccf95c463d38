"""Companions of a photo file: sidecars, the video of a live photo, voice memos, thumbnails.

A companion is known by its name. `IMG_1.jpg.xmp`, named after the whole file name, belongs to `IMG_1.jpg` alone;
`IMG_1.xmp` and `IMG_1.mov`, named after what stands before the suffix, belong to every photo of that name. A photo
is never a companion: of RAW and JPEG each is a photo of its own.
"""
# ruff: noqa: PTH118, PTH122, PTH208
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable

from birdsearch.model.images.formats import SUFFIXES, UNREAD_SUFFIXES
from birdsearch.search.annotate.sources import KeywordError, file_keywords, sidecar_keywords
from birdsearch.search.dedup.moves import MoveError

__all__ = ["FolderNames", "companions_of", "keywords_of", "names_of_companions"]

# After the whole file name: metadata of Adobe, darktable and Apple, of Google Takeout, RawTherapee and DxO.
_OF_THE_FILE = (b".xmp", b".aae", b".json", b".pp3", b".dop")
# After the name without its suffix: metadata, live photo, voice memo, thumbnail.
_OF_THE_NAME = (b".xmp", b".aae", b".mov", b".mp4", b".wav", b".thm")
_PHOTO_SUFFIXES = frozenset(suffix.encode() for suffix in (*SUFFIXES, *UNREAD_SUFFIXES))
_KNOWN = _PHOTO_SUFFIXES.union(_OF_THE_FILE, _OF_THE_NAME)


def companions_of(path: bytes) -> list[bytes]:
    """Find the files that belong to a photo file alone, those of other photos in its folder left out.

    Args:
        path: The photo file.

    Returns:
        Regular files by path.

    Raises:
        MoveError: The folder cannot be listed.
    """
    folder, name = os.path.split(path)
    try:
        found = [os.path.join(folder, entry) for entry in names_of_companions(name, os.listdir(folder))]
        return [each for each in found if stat.S_ISREG(os.lstat(each).st_mode)]
    except OSError as error:
        raise MoveError(f"lies in a folder that cannot be listed ({error.strerror})") from error


class FolderNames:
    """The names in folders, listed once each, of those that may belong to one photo file.

    For looking at many files while nothing moves; `companions_of` lists the folder as it is now.
    """

    def __init__(self) -> None:
        self._folders: dict[bytes, dict[bytes, list[bytes]]] = {}

    def companions_of(self, path: bytes) -> list[bytes]:
        """Find the files that belong to a photo file alone; none in a folder that cannot be listed."""
        folder, name = os.path.split(path)
        if folder not in self._folders:
            names = self._folders[folder] = {}
            with contextlib.suppress(OSError):
                for entry in os.listdir(folder):
                    names.setdefault(_bare(entry), []).append(entry)
        entries = self._folders[folder].get(_bare(name), [])
        return [os.path.join(folder, entry) for entry in names_of_companions(name, entries)]


def _bare(name: bytes) -> bytes:
    """Return a name without the suffixes of photos and companions: the same for all that may belong together."""
    base = name.lower()
    while True:
        stem, suffix = os.path.splitext(base)
        if suffix not in _KNOWN:
            return base
        base = stem


def names_of_companions(name: bytes, entries: Iterable[bytes]) -> list[bytes]:
    """Choose the names that belong to a photo file alone, in order.

    Args:
        name: The file's own name.
        entries: The names in its folder; upper and lower case are one.
    """
    wanted, stem = name.lower(), os.path.splitext(name)[0].lower()
    own: list[bytes] = []
    shared: list[bytes] = []
    after: dict[bytes, list[bytes]] = {}
    is_shared = False
    for entry in entries:
        base, suffix = os.path.splitext(entry.lower())
        if suffix in _OF_THE_FILE:
            after.setdefault(base, []).append(entry)
        if suffix in _OF_THE_FILE and base == wanted:
            own.append(entry)
        elif suffix in _OF_THE_NAME and base == stem:
            shared.append(entry)
        elif suffix in _PHOTO_SUFFIXES and base == stem and entry != name:
            is_shared = True
    found = own if is_shared else own + shared
    # The video of a live photo may have a sidecar of its own.
    found += [entry for each in found for entry in after.get(each.lower(), ())]
    return sorted(set(found) - {name})


def keywords_of(path: bytes, companions: Iterable[bytes]) -> tuple[str, ...]:
    """Read the keywords in a photo file and in the sidecars that belong to it, each once, in order.

    What cannot be read has none: `birdsearch annotate keywords` says what is wrong with it.
    """
    words: list[str] = []
    with contextlib.suppress(KeywordError):
        words += file_keywords(path)[0]
    for companion in companions:
        if companion.lower().endswith(b".xmp"):
            with contextlib.suppress(KeywordError):
                words += sidecar_keywords(companion)
    return tuple(sorted(set(words)))
