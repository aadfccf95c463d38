"""Walk a photo archive: which files are photos, and what could not be looked at.

Names are bytes throughout, as the file system has them: they need not be UTF-8, and two names that look the
same (NFC and NFD) are two files. Nothing is opened but folders and `.birdsearchignore`; special files (FIFO,
socket, device) are recognised by their status alone.

What is left out, with all that is below it:

- names that begin with a dot, which covers `.thumbnails`, `.Trash-1000` and AppleDouble `._name.jpg`;
- folders in which systems and programs keep previews and deleted files (`VENDOR_FOLDERS`,
  `VENDOR_FOLDER_SUFFIXES`);
- in a photo library package of Apple (`*.photoslibrary` and its forerunners), everything but the folders of
  original files;
- a folder that holds a catalog, and the folders that the caller excludes;
- a folder with an empty `.birdsearchignore`. One with lines holds patterns (`fnmatch`, case-sensitive,
  matched against single names, `#` begins a comment, a pattern that ends in `/` matches folders only) and
  leaves out what they match in that folder and below.
"""
# ruff: noqa: PTH116, PTH118, PTH122, PTH123
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import errno
import fnmatch
import os
import stat
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError, MissingFilesError
from birdsearch.indexer.catalog.records import FoundFile
from birdsearch.model.images.formats import SUFFIXES, UNREAD_SUFFIXES

__all__ = ["CrawlItem", "CrawlProblem", "IgnoredFile", "crawl"]

CATALOG_FILE = b"birdsearch.sqlite"
IGNORE_FILE = b".birdsearchignore"
VENDOR_FOLDERS = frozenset(
    {
        *(
            b"@eadir",
            b"#recycle",
            b"#snapshot",
            b"@recycle",
            b"@recently-snapshot",
            b"$recycle.bin",
            b"recycler",
        ),
        *(b"system volume information", b"lost+found", b"__macosx", b"found.000"),
    }
)
VENDOR_FOLDER_SUFFIXES = (b".lrdata", b".lrcat-data", b".cocatalogdb")
LIBRARY_SUFFIXES = (b".photoslibrary", b".photolibrary", b".aplibrary", b".migratedphotolibrary")
LIBRARY_ORIGINALS = frozenset((b"originals", b"masters"))

_PICTURE_SUFFIXES = frozenset(suffix.encode() for suffix in (*SUFFIXES, *UNREAD_SUFFIXES))
_MAX_IGNORE_BYTES = 1 << 16
_RETRIED = frozenset({errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN})
_RETRY_PAUSES_S = (0.05, 0.2)


@dataclass(frozen=True, slots=True)
class CrawlProblem:
    """Something that could not be looked at, or will not be.

    Attributes:
        path: Relative to the root, separated by `/`.
        code: `unreadable`, `io-error`, `vanished`, `path-too-long`, `broken-link`, `link-out-of-root` or
            `not-a-file`.
        reason: One sentence for a person.
        is_folder: True if it is, or may be, a folder: nothing is known about the photos below it.
    """

    path: bytes
    code: str
    reason: str
    is_folder: bool = False


@dataclass(frozen=True, slots=True)
class IgnoredFile:
    """A file that is not named like a picture.

    Attributes:
        path: Relative to the root, separated by `/`.
        suffix: Lower-case suffix with its dot, or the empty string.
    """

    path: bytes
    suffix: str


CrawlItem = FoundFile | CrawlProblem | IgnoredFile
"""What a crawl yields."""


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder still to be entered."""

    path: bytes
    patterns: tuple[bytes, ...] = ()
    is_library: bool = False


def crawl(
    root: bytes, *, follow_links: bool = False, excluded: Collection[bytes] = ()
) -> Iterator[CrawlItem]:
    """Walk a folder and all below it.

    The order is the same in every run: the files of a folder by the bytes of their names, then its folders.
    One folder's listing is in memory at a time.

    A link to a folder inside the root is not followed: its target is reached without it. A link to a file
    inside the root is one more path to that file. With `follow_links`, links to folders are followed after
    everything else, each real folder once.

    Args:
        root: The folder.
        follow_links: Follow links out of the root.
        excluded: Absolute paths of folders that are left out.

    Returns:
        An iterator over what is there.

    Raises:
        MissingFilesError: The root is not there, not a folder, or cannot be listed.
        InvalidInputError: The root is the folder of a catalog.
    """
    try:
        with os.scandir(root):
            pass
    except NotADirectoryError:
        raise MissingFilesError(
            f"{display_path(root)}: not a folder; name the folder that holds the photos. Nothing was changed."
        ) from None
    except FileNotFoundError:
        raise MissingFilesError(
            f"{display_path(root)}: there is no such folder; is the disk mounted? Nothing was changed."
        ) from None
    except OSError as error:
        raise MissingFilesError(
            f"{display_path(root)}: the folder cannot be listed ({error.strerror}); check its permissions and"
            " that the disk is connected. Nothing was changed."
        ) from error
    if os.path.lexists(os.path.join(root, CATALOG_FILE)):
        raise InvalidInputError(
            f"{display_path(root)}: this folder is a birdsearch catalog; index the folder that holds the"
            " photos and keep the catalog elsewhere"
        )
    return _Crawl(root, follow_links, excluded).walk()


class _Crawl:
    """One walk: what it has entered and what it still has to enter."""

    def __init__(self, root: bytes, follow_links: bool, excluded: Collection[bytes]) -> None:
        self.root = root
        self.real_root = os.path.realpath(root)
        self.follow_links = follow_links
        self.entered: set[tuple[int, int]] = set()
        self.folders: list[_Folder] = [_Folder(b"")]
        self.links: list[_Folder] = []
        for path in excluded:
            try:
                status = os.stat(path)
            except OSError:
                continue
            self.entered.add((status.st_dev, status.st_ino))

    def walk(self) -> Iterator[CrawlItem]:
        while self.folders or self.links:
            if not self.folders:
                # Real folders come first, so that a photo has its real path where it has one.
                self.folders, self.links = sorted(self.links, key=lambda link: link.path, reverse=True), []
            folder = self.folders.pop()
            yield from self._enter(folder)

    def _absolute(self, path: bytes) -> bytes:
        return os.path.join(self.root, path) if path else self.root

    def _enter(self, folder: _Folder) -> Iterator[CrawlItem]:
        absolute = self._absolute(folder.path)
        try:
            own = os.stat(absolute)
            identity = (own.st_dev, own.st_ino)
            if identity in self.entered:
                return
            if self.follow_links:
                self.entered.add(identity)
            entries = _listing(absolute)
        except OSError as error:
            yield _problem(folder.path, error, is_folder=True)
            return
        if CATALOG_FILE in entries and folder.path:
            return
        patterns = folder.patterns
        if IGNORE_FILE in entries:
            try:
                here = _read_patterns(os.path.join(absolute, IGNORE_FILE))
            except OSError as error:
                yield _problem(os.path.join(folder.path, IGNORE_FILE), error, is_folder=False)
                yield _problem(folder.path, error, is_folder=True)
                return
            if here is None:
                return
            patterns = (*patterns, *here)
        below: list[_Folder] = []
        prefix = os.path.join(folder.path, b"")
        has_rules = bool(patterns) or folder.is_library
        # Taken out one by one: an entry keeps its status, which is several times its own size.
        names = sorted(entries, reverse=True)
        while names:
            name = names.pop()
            entry = entries.pop(name)
            if name.startswith(b"."):
                continue
            path = prefix + name
            is_picture = is_picture_name(name)
            try:
                # The kind comes with the listing on most file systems; only pictures are looked at.
                is_link, is_folder = entry.is_symlink(), entry.is_dir(follow_symlinks=False)
                status = entry.stat(follow_symlinks=False) if is_picture and not is_folder else None
            except OSError as error:
                if error.errno != errno.ENOENT or is_picture:
                    yield _problem(path, error, is_folder=not is_picture)
                continue
            if is_folder:
                if not _is_left_out(name, folder, patterns, is_folder=True):
                    below.append(_Folder(path, patterns, name.lower().endswith(LIBRARY_SUFFIXES)))
            elif not (has_rules and _is_left_out(name, folder, patterns, is_folder=False)):
                if is_link:
                    yield from self._link(path, name, folder, patterns)
                elif status is None:
                    yield IgnoredFile(path, _suffix(name))
                else:
                    yield _picture(path, status)
        self.folders.extend(reversed(below))

    def _link(
        self, path: bytes, name: bytes, folder: _Folder, patterns: tuple[bytes, ...]
    ) -> Iterator[CrawlItem]:
        absolute = self._absolute(path)
        named_as_file = _suffix(name) != "" and not is_picture_name(name)
        try:
            target = os.stat(absolute)
        except OSError as error:
            # A link of unknown kind may stand for a folder on a disk that is not there now.
            if not named_as_file:
                loop = "it leads back to itself" if error.errno == errno.ELOOP else error.strerror
                reason = f"the link leads nowhere: {loop}"
                yield CrawlProblem(path, "broken-link", reason, is_folder=not is_picture_name(name))
            return
        real = os.path.realpath(absolute)
        inside = real == self.real_root or real.startswith(os.path.join(self.real_root, b""))
        if stat.S_ISDIR(target.st_mode):
            if self.follow_links:
                if not _is_left_out(name, folder, patterns, is_folder=True):
                    self.links.append(_Folder(path, patterns, real.lower().endswith(LIBRARY_SUFFIXES)))
            elif not inside:
                reason = "the link leads to a folder out of the root, which is not followed unless asked"
                yield CrawlProblem(path, "link-out-of-root", reason, is_folder=True)
        elif not is_picture_name(name):
            yield IgnoredFile(path, _suffix(name))
        elif inside or self.follow_links:
            yield _picture(path, target)
        else:
            reason = "the link leads to a file out of the root, which is not followed unless asked"
            yield CrawlProblem(path, "link-out-of-root", reason)


def _picture(path: bytes, status: os.stat_result) -> CrawlItem:
    if not stat.S_ISREG(status.st_mode):
        reason = "it is named like a picture and is not a file (a FIFO, socket or device); it is not opened"
        return CrawlProblem(path, "not-a-file", reason)
    return FoundFile(
        path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_dev, status.st_ino
    )


def _listing(absolute: bytes) -> dict[bytes, os.DirEntry[bytes]]:
    """Return entries by name: a folder that changes while it is listed may give one name twice."""
    for pause in _RETRY_PAUSES_S:
        try:
            return _entries(absolute)
        except OSError as error:
            if error.errno not in _RETRIED:
                raise
            time.sleep(pause)
    return _entries(absolute)


def _entries(absolute: bytes) -> dict[bytes, os.DirEntry[bytes]]:
    with os.scandir(absolute) as entries:
        return {entry.name: entry for entry in entries}


def _is_left_out(name: bytes, parent: _Folder, patterns: tuple[bytes, ...], *, is_folder: bool) -> bool:
    lower = name.lower()
    if parent.is_library and lower not in LIBRARY_ORIGINALS:
        return True
    if is_folder and (lower in VENDOR_FOLDERS or lower.endswith(VENDOR_FOLDER_SUFFIXES)):
        return True
    for pattern in patterns:
        only_folders = pattern.endswith(b"/")
        if only_folders and not is_folder:
            continue
        if fnmatch.fnmatchcase(name, pattern.rstrip(b"/") if only_folders else pattern):
            return True
    return False


def _read_patterns(path: bytes) -> tuple[bytes, ...] | None:
    """Return the patterns of an ignore file, or None if it is blank, which leaves out the whole folder."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is not a regular file")
        content = file.read(_MAX_IGNORE_BYTES).removeprefix(b"\xef\xbb\xbf")
    if not content.strip():
        return None
    lines = (line.strip() for line in content.splitlines())
    return tuple(line for line in lines if line and not line.startswith(b"#"))


def _suffix(name: bytes) -> str:
    return os.path.splitext(name)[1].lower().decode("utf-8", "backslashreplace")


def is_picture_name(name: bytes) -> bool:
    """Return whether a name has the suffix of a picture format, be it one that is read or one only known."""
    return os.path.splitext(name)[1].lower() in _PICTURE_SUFFIXES


_CODES = {
    errno.EACCES: "unreadable",
    errno.EPERM: "unreadable",
    errno.ENOENT: "vanished",
    errno.ENOTDIR: "vanished",
    errno.ENAMETOOLONG: "path-too-long",
}


def _problem(path: bytes, error: OSError, *, is_folder: bool) -> CrawlProblem:
    what = "folder" if is_folder else "file"
    reason = f"the {what} could not be looked at: {error.strerror or type(error).__name__}"
    return CrawlProblem(path, _CODES.get(error.errno or 0, "io-error"), reason, is_folder=is_folder)
