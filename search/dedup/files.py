"""The files of photos that are compared, and the folders that a user named."""
# ruff: noqa: PTH100, PTH111, PTH112, PTH118, PTH119, PTH122
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.copies import read_present_files
from birdsearch.indexer.catalog.filters import Folder, Where
from birdsearch.indexer.catalog.reach import Reach
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.model.images.file_names import name_facts

__all__ = ["FileTable", "Folders", "StoredFile"]

# `IMG_1048`, `DSC01234`, `20240316_064221142`, `IMG_20240316_064221`: what a camera calls a file.
_NUMBERED = re.compile(rb"\D{0,8}\d{3,}(?:[-_]\d{3,})*")
_DIGIT = re.compile(rb"\d")
_PAIR_FORMATS = frozenset(("RAW", "HEIF"))


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that the catalog holds as present.

    Attributes:
        photo_id: Its photo.
        path: Absolute path.
        size: Bytes, when it was indexed.
        mtime_ns: Time of the last change of its content, when it was indexed.
        is_new: It was indexed, or found changed, by the newest `index` run.
        digest: Digest of the file, or its SHA-256.
        capture: JSON of what it says about its photo, where that is another than the photo's row says.
    """

    photo_id: int
    path: bytes
    size: int
    mtime_ns: int
    is_new: bool = False
    digest: bytes = b""
    capture: str | None = None


class Folders:
    """Folders that a user named, by the name as given and with links resolved.

    Args:
        folders: Their names; a relative one is below the current folder.
        option: The option that named them, for the message if one does not exist; None if it need not exist.

    Raises:
        InvalidInputError: A folder does not exist.
    """

    def __init__(self, folders: Sequence[Folder], option: str | None = None) -> None:
        self._names: dict[bytes, set[bytes]] = {}
        for folder in folders:
            name = os.path.expanduser(os.fsencode(folder))
            if option is not None and not os.path.isdir(name):
                raise InvalidInputError(
                    f"{option} {os.fsdecode(name)}: there is no such folder; nothing was changed"
                )
            self._names[name] = {os.path.abspath(name), os.path.realpath(name)}

    def __bool__(self) -> bool:
        return bool(self._names)

    def hold(self, path: bytes) -> bool:
        """Return whether a path is one of the folders or lies below one."""
        return any(_is_within(path, name) for names in self._names.values() for name in names)

    def hold_really(self, path: bytes) -> bool:
        """Return whether a path, or what it leads to once links are resolved, is in one of the folders."""
        return bool(self) and (self.hold(path) or self.hold(os.path.realpath(path)))

    def unrelated(self, roots: Sequence[bytes]) -> list[bytes]:
        """Return the folders, as named, that neither hold nor lie in any of some others."""
        return [
            given
            for given, names in self._names.items()
            if not any(_is_within(root, name) or _is_within(name, root) for root in roots for name in names)
        ]


def _is_within(path: bytes, folder: bytes) -> bool:
    return path == folder or path.startswith(folder.rstrip(b"/") + b"/")


class FileTable:
    """The present files of photos, read when they are first asked for.

    Args:
        store: An open catalog.
        where: Files outside `under`, or in `exclude_under`, take no part; nor do those of a root that is not there.
    """

    def __init__(self, store: CatalogStore, where: Where) -> None:
        self._store = store
        self._under, self._not_under = Folders(where.under), Folders(where.exclude_under)
        self._reach = Reach()
        self._files: dict[int, list[StoredFile]] = {}
        self._formats: dict[int, str] = {}
        self._sides: dict[int, tuple[int, int]] = {}

    def read(self, photo_ids: Iterable[int]) -> None:
        """Read the files of some photos."""
        wanted = [photo_id for photo_id in photo_ids if photo_id not in self._files]
        self._files.update((photo_id, []) for photo_id in wanted)
        for file in read_present_files(self._store, wanted):
            path = os.path.join(file.root, file.path)
            self._formats[file.photo_id] = file.format
            self._sides[file.photo_id] = (file.width, file.height)
            if self._takes_part(path) and self._reach.has_root(file.root):
                stored = StoredFile(
                    file.photo_id, path, file.size, file.mtime_ns, digest=file.digest, capture=file.capture
                )
                self._files[file.photo_id].append(stored)
        for photo_id in wanted:
            self._files[photo_id].sort(key=lambda each: each.path)

    def _takes_part(self, path: bytes) -> bool:
        return not (self._under and not self._under.hold(path)) and not self._not_under.hold(path)

    def of(self, photo_id: int) -> list[StoredFile]:
        """Return the files of a photo that was read, by path."""
        return self._files[photo_id]

    def camera_pairs(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Choose the pairs of photos that were read which a camera wrote together.

        They have files in one folder with one name up to the suffix, in any case, and one of them is RAW or HEIC.
        """
        return [
            (first, second)
            for first, second in pairs
            if not _PAIR_FORMATS.isdisjoint((self._formats.get(first), self._formats.get(second)))
            and not self._stems(first).isdisjoint(self._stems(second))
        ]

    def numbered_apart(self, pairs: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """Choose the pairs of photos that were read which have different numbers of one series.

        Cameras number their files, and copies keep the number: `IMG_1048` and `IMG_1049-web` are two exposures, of
        `IMG_1048` and `best-5` nothing is known. The size in a name is no number.
        """
        apart = []
        for first, second in pairs:
            one, other = self._numbers(first), self._numbers(second)
            if any(one[series].isdisjoint(other[series]) for series in one.keys() & other.keys()):
                apart.append((first, second))
        return apart

    def _numbers(self, photo_id: int) -> dict[bytes, set[bytes]]:
        """Return the numbers that the names of a photo's files begin with, by the names without them."""
        numbers: dict[bytes, set[bytes]] = {}
        for file in self._files[photo_id]:
            found = self.number(file)
            if found is not None:
                numbers.setdefault(found[0], set()).add(found[1])
        return numbers

    def number(self, file: StoredFile) -> tuple[bytes, bytes] | None:
        """Return the series and the number in the name of a file that was read; None if there is no number."""
        name = name_facts(os.path.basename(file.path), self._sides[file.photo_id]).base
        match = _NUMBERED.match(name.lower())
        return None if match is None else (_DIGIT.sub(b"0", match[0]), match[0])

    def _stems(self, photo_id: int) -> set[bytes]:
        return {os.path.splitext(file.path)[0].lower() for file in self._files[photo_id]}
