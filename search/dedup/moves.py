"""Moving one file without ever losing or overwriting one."""
# ruff: noqa: PTH102, PTH104, PTH106, PTH108, PTH112, PTH116, PTH118, PTH119, PTH120, PTH121, PTH122, PTH123, PTH208
# The rules ask for pathlib, which takes no bytes.

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from birdsearch.display_path import display_path
from birdsearch.errors import BirdsearchError, InvalidInputError
from birdsearch.indexer.crawl import IGNORE_FILE
from birdsearch.model.images.digest import is_file

__all__ = [
    "MoveError",
    "Seen",
    "free_name",
    "holds",
    "is_still",
    "make_run_folder",
    "move_file",
    "name_below",
    "prune",
    "root_names",
    "same_file",
    "verify",
]

_CHUNK = 1 << 20
# What file systems that know no hard links answer, and systems that forbid them.
_NO_LINKS = frozenset(
    (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK, errno.EINVAL)
)


class MoveError(BirdsearchError):
    """A file was not moved. The message goes on from the file's name: `is not there any more`."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A file whose content was read: its SHA-256, and what identifies it as still the same file."""

    digest: bytes
    identity: tuple[int, int, int, int]


def verify(path: bytes, digest: bytes | None, *, follow_links: bool = False) -> Seen:
    """Read a file and compare its content.

    Args:
        path: The file.
        digest: Digest of the file that it has to have, or its SHA-256; None for any.
        follow_links: Take what a link leads to.

    Returns:
        What was seen.

    Raises:
        MoveError: It is not there, no regular file, cannot be read, or has other content.
    """
    try:
        if not stat.S_ISREG(os.stat(path, follow_symlinks=follow_links).st_mode):
            raise MoveError("is a link or no regular file")
        with open(path, "rb") as stream:
            status = os.fstat(stream.fileno())
            found = hashlib.file_digest(stream, "sha256").digest()
            is_it = digest is None or digest == found
            if digest is not None and len(digest) != len(found):
                stream.seek(0)
                is_it = is_file(stream.read(), digest)
    except FileNotFoundError as error:
        raise MoveError("is not there any more") from error
    except OSError as error:
        raise MoveError(f"cannot be read ({error.strerror})") from error
    if not is_it:
        raise MoveError("changed since it was indexed; run `birdsearch index` first")
    return Seen(found, _identity(status))


def holds(path: bytes, digest: bytes) -> bool:
    """Return whether there is a regular file with that content."""
    try:
        verify(path, digest)
    except MoveError:
        return False
    return True


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def is_still(path: bytes, seen: Seen) -> bool:
    """Return whether a path leads to the file that was seen, unchanged as far as its status shows."""
    try:
        return _identity(os.stat(path)) == seen.identity
    except OSError:
        return False


def same_file(one: bytes, other: bytes) -> bool:
    """Return whether two paths lead to one file.

    Raises:
        MoveError: One of them cannot be looked at.
    """
    try:
        return os.path.samefile(one, other)
    except OSError as error:
        raise MoveError(f"cannot be looked at ({error.strerror})") from error


def free_name(path: bytes) -> bytes:
    """Return a path at which there is nothing: this one, or one with a number before the suffix."""
    stem, suffix = os.path.splitext(path)
    number = 1
    free = path
    while os.path.lexists(free):
        number += 1
        free = b"%s (%d)%s" % (stem, number, suffix)
    return free


def move_file(source: bytes, target: bytes, digest: bytes) -> None:
    """Move a file to a path at which there is nothing; folders on the way are made.

    Cut short at any point, the file is whole under its old name, its new one, or both.

    Args:
        source: A file with that content; see `verify`.
        target: Where it goes.
        digest: SHA-256 of its content.

    Raises:
        MoveError: It could not be moved, and is where it was.
    """
    try:
        before = _identity(os.lstat(source))
        _make_folders(os.path.dirname(target))
        try:
            _link(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            _copy(source, target, digest)
        # The new name has to be on the disk before the old one goes.
        _sync_folder(os.path.dirname(target))
        if os.path.lexists(source):
            _remove(source, target, before)
            _sync_folder(os.path.dirname(source))
    except FileExistsError as error:
        raise MoveError(f"was not moved: there is a file {display_path(target)} already") from error
    except OSError as error:
        raise MoveError(f"was not moved to {display_path(target)} ({error.strerror})") from error


def _remove(source: bytes, target: bytes, before: tuple[int, int, int, int]) -> None:
    """Take the old name away, if it still is that of the file that has the new one; else the new one."""
    try:
        if _identity(os.lstat(source)) != before:
            raise MoveError("was not moved: it changed meanwhile")
        os.unlink(source)
    except (OSError, MoveError):
        os.unlink(target)
        raise


def _link(source: bytes, target: bytes) -> None:
    """Give a file its new name beside the old one, where that is possible; else rename it.

    A new link fails if the name is taken, which a rename does not.
    """
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from error
        os.rename(source, target)


def _copy(source: bytes, target: bytes, digest: bytes) -> None:
    """Copy a file to another file system: it gets its name once it is whole, verified and on the disk."""
    part = os.path.join(os.path.dirname(target), b".birdsearch-%s.part" % secrets.token_hex(8).encode())
    try:
        with open(source, "rb") as reader, open(part, "xb") as writer:
            shutil.copyfileobj(reader, writer, _CHUNK)
            writer.flush()
            os.fsync(writer.fileno())
        shutil.copystat(source, part)
        if verify(part, None).digest != digest:
            raise MoveError("was not moved: its copy is not what was read")
        _link(part, target)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(part)


def _make_folders(folder: bytes) -> None:
    """Make a folder and those above it; each is on the disk, entry in its parent included, before this returns."""
    if os.path.isdir(folder):
        return
    parent = os.path.dirname(folder)
    _make_folders(parent)
    with contextlib.suppress(FileExistsError):
        os.mkdir(folder)
    _sync_folder(parent)


def _sync_folder(folder: bytes) -> None:
    # Not every file system lets a folder be synchronised; then there is nothing to wait for.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def make_run_folder(quarantine: Path, run_id: int) -> bytes:
    """Make a folder for what a run moves away; `birdsearch index` passes it over.

    Args:
        quarantine: The folder that it is to be in; made if it is not there.
        run_id: The run, which names it.

    Returns:
        Its absolute path.

    Raises:
        InvalidInputError: It cannot be made.
    """
    base = os.path.realpath(os.fsencode(quarantine.expanduser()))
    number = 1
    folder = os.path.join(base, b"run-%d" % run_id)
    try:
        _make_folders(base)
        # A folder of that name may be of another catalog.
        while os.path.lexists(folder):
            number += 1
            folder = os.path.join(base, b"run-%d-%d" % (run_id, number))
        os.mkdir(folder)
        # An empty one: nothing below is indexed, should the folder lie in an archive.
        with open(os.path.join(folder, IGNORE_FILE), "xb"):
            pass
        _sync_folder(folder)
        _sync_folder(base)
    except OSError as error:
        raise InvalidInputError(
            f"{display_path(folder)}: the quarantine folder cannot be made ({error.strerror}); nothing was moved"
        ) from error
    return folder


def root_names(roots: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    """Return a name of its own for each indexed folder, the innermost folders first."""
    names: dict[bytes, bytes] = {}
    for root in sorted(roots):
        name = stem = os.path.basename(root.rstrip(b"/")) or b"root"
        number = 1
        while name in names.values():
            number += 1
            name = b"%s-%d" % (stem, number)
        names[root] = name
    return sorted(names.items(), key=lambda item: len(item[0]), reverse=True)


def name_below(roots: Sequence[tuple[bytes, bytes]], path: bytes) -> bytes:
    """Return where a file goes below the folder of a run: the name of its indexed folder, then its path in that.

    Args:
        roots: Indexed folders with their names, as `root_names` gives them.
        path: The file.
    """
    for root, name in roots:
        if path.startswith(root.rstrip(b"/") + b"/"):
            return os.path.join(name, path[len(root.rstrip(b"/")) + 1 :])
    return path.lstrip(b"/")


def prune(folder: bytes) -> None:
    """Remove a folder of a run, and those above it in the run's own, as far as they hold nothing any more."""
    with contextlib.suppress(OSError):
        while not (names := os.listdir(folder)):
            os.rmdir(folder)
            folder = os.path.dirname(folder)
        if names == [IGNORE_FILE]:
            os.unlink(os.path.join(folder, IGNORE_FILE))
            os.rmdir(folder)
