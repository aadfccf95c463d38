"""Photos made small: kept on disk up to a limit, made once however many ask, and never with metadata."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
import zlib
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

from birdsearch.errors import PhotoError
from birdsearch.files import write_whole
from birdsearch.indexer.catalog.photo_content import PhotoContent
from birdsearch.model.images.box import Box
from birdsearch.search.service.photo_files import opened
from birdsearch.search.service.thumb_makers import ThumbMakers, ThumbTask
from birdsearch.settings import Settings

__all__ = ["SIZES", "ThumbCache", "thumbs_folder"]

log = logging.getLogger(__name__)

SIZES = (160, 320, 640, 1280)
"""Lengths that the longer side of a thumbnail can have, in pixels."""

# Part of every name and ETag: raised when thumbnails are made in another way.
_VERSION = 2
# A thumbnail that was used so long ago is marked as used again, in seconds.
_TOUCH_S = 3600.0
# Parts of the limit: so much is written between two looks at what there is; beyond so much some is thrown away,
# until so much is left. With two processes there is never more than the limit.
_SWEEP_EVERY, _SWEEP_FROM, _SWEEP_TO = 0.05, 0.9, 0.85
# A file that was left half written by a process that died is so old, in seconds.
_LEFTOVER_S = 3600.0
# A photo that could not be decoded is not tried again for so long, in seconds; so many are remembered.
_REMEMBER_S, _REMEMBERED = 600.0, 10_000
_CHECK_BYTES = 4

_Key = tuple[str, int, str, Box | None]


def thumbs_folder(settings: Settings | None = None) -> Path:
    """Return where thumbnails are kept. They are named by content, so all catalogs share them."""
    return (Settings.from_environment() if settings is None else settings).cache / "thumbs"


class ThumbCache:
    """Thumbnails of photos. Several threads may ask at once, and several processes may use one folder.

    The time of its file says when a thumbnail was used last. A file is a thumbnail and the crc32 of it, so
    that one that was damaged is made again.

    Args:
        folder: Where they are kept; made when it is needed.
        limit_bytes: Room for them. A process looks at what there is after it has written a twentieth of that; 0
            keeps none.
        makers: What makes them; closed with this.
    """

    def __init__(self, folder: Path, limit_bytes: int, makers: ThumbMakers | None = None) -> None:
        self._folder = folder / f"v{_VERSION}"
        self._limit = limit_bytes
        self._makers = ThumbMakers() if makers is None else makers
        self._lock = threading.Lock()
        self._being_made: dict[_Key, Future[bytes]] = {}
        self._failed: OrderedDict[_Key, tuple[float, str, str, str]] = OrderedDict()
        self._sweeping = threading.Lock()
        # So that the first one to be written has a look.
        self._written = limit_bytes
        self._told = False

    @staticmethod
    def etag(shown: bytes, size: int, encoding: str, box: Box | None = None) -> str:
        """Return the strong entity tag of a thumbnail; `shown` identifies how its photo looks."""
        part = "" if box is None else f"-{box.x:.6g},{box.y:.6g},{box.w:.6g},{box.h:.6g}"
        return f'"{shown.hex()[:32]}-{size}{part}-{encoding.lower()}{_VERSION}"'

    def get(self, found: PhotoContent, size: int, encoding: str, box: Box | None = None) -> bytes | None:
        """Return a thumbnail.

        Args:
            found: The photo.
            size: One of `SIZES`.
            encoding: `JPEG`, `WEBP` or `AVIF`.
            box: A region to show; such thumbnails are not kept.

        Returns:
            The encoded thumbnail, or None if no file of the photo is there any more.

        Raises:
            PhotoError: The photo cannot be decoded.
            ThumbMakersBusyError: Others keep those busy that make thumbnails.
        """
        key = (found.shown.hex(), size, encoding, box)
        with opened(found) as file:
            if file is None:
                return None
            if box is None and (kept := self._kept(key)) is not None:
                return kept
            descriptor, path = file
            suffix = os.path.splitext(os.fsdecode(path))[1]  # noqa: PTH122
            task = ThumbTask(found.digest.hex(), size, encoding, suffix, box)
            return self._once(key, lambda: self._makers.make(descriptor, task))

    def _once(self, key: _Key, make: Callable[[], bytes]) -> bytes:
        """Make a thumbnail, or wait for the thread that makes it already."""
        with self._lock:
            failed = self._failed.get(key)
            if failed is not None and failed[0] > time.monotonic():
                raise PhotoError(*failed[1:])
            waiting = self._being_made.get(key)
            if waiting is None:
                future = self._being_made[key] = Future()
        if waiting is not None:
            return waiting.result()
        try:
            # The thread that made it may have been done between two looks.
            kept = None if key[3] is not None else self._kept(key)
            content = make() if kept is None else kept
            if kept is None and key[3] is None:
                self._keep(key, content)
        except BaseException as error:
            self._done(key, error)
            future.set_exception(error)
            raise
        else:
            self._done(key, None)
            future.set_result(content)
            return content
        finally:
            # The exception refers to this frame, and so would the future.
            del future

    def _done(self, key: _Key, error: BaseException | None) -> None:
        with self._lock:
            del self._being_made[key]
            if isinstance(error, PhotoError) and not error.transient:
                self._failed[key] = (time.monotonic() + _REMEMBER_S, error.stage, error.code, error.reason)
                self._failed.move_to_end(key)
                while len(self._failed) > _REMEMBERED:
                    self._failed.popitem(last=False)

    # -- on disk -----------------------------------------------------------------------------------------

    def _path(self, key: _Key) -> Path:
        digest, size, encoding, _ = key
        return self._folder / digest[:2] / f"{digest}-{size}.{encoding.lower()}"

    def _kept(self, key: _Key) -> bytes | None:
        path = self._path(key)
        try:
            with path.open("rb") as stream:
                used = os.fstat(stream.fileno()).st_mtime
                content = stream.read()
        except OSError:
            return None
        body, check = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
        if not body or zlib.crc32(body).to_bytes(_CHECK_BYTES, "big") != check:
            return None
        if time.time() - used > _TOUCH_S:
            with contextlib.suppress(OSError):
                os.utime(path)
        return body

    def _keep(self, key: _Key, content: bytes) -> None:
        if len(content) > self._limit:
            return
        path = self._path(key)
        try:
            # Other users of the machine may not see the photos.
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            write_whole(path, content + zlib.crc32(content).to_bytes(_CHECK_BYTES, "big"))
        except OSError as error:
            if not self._told:
                self._told = True
                log.warning("thumbnails are not kept: %s", error.strerror or error)
            return
        with self._lock:
            self._written += len(content)
            is_due = self._written >= _SWEEP_EVERY * self._limit
        if is_due and self._sweeping.acquire(blocking=False):
            try:
                with self._lock:
                    self._written = 0
                self.sweep()
            finally:
                self._sweeping.release()

    def sweep(self) -> int:
        """Throw away the thumbnails that were used longest ago if there are too many.

        Returns:
            Bytes that are left.
        """
        now = time.time()
        files: list[tuple[float, int, str]] = []
        for folder in _entries(self._folder):
            for entry in _entries(Path(folder.path)):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if entry.name.endswith(".part"):
                        if now - status.st_mtime > _LEFTOVER_S:
                            Path(entry.path).unlink(missing_ok=True)
                        continue
                    files.append((status.st_mtime, status.st_size, entry.path))
        total = sum(size for _, size, _ in files)
        if total > _SWEEP_FROM * self._limit:
            for _, size, path in sorted(files):
                if total <= _SWEEP_TO * self._limit:
                    break
                with contextlib.suppress(OSError):
                    # Another process may have thrown it away.
                    Path(path).unlink(missing_ok=True)
                    total -= size
        return total

    def close(self) -> None:
        """End the processes that make thumbnails."""
        self._makers.close()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []
