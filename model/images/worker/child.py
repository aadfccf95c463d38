"""The process that reads, hashes and decodes photos for `birdsearch.model.images.worker.pool`.

It is started with the number of a connected socket and its settings as arguments. Decoders are the part of
the program that meets hostile bytes, so what it sends is JSON, and plain pixels in shared memory: the parent never
unpickles what a worker says.

It has up to a few tasks at a time. Each file is read and hashed; the parent answers what is to be done with it: it
is passed over, its metadata is read, or it is decoded; meanwhile the next one is read. Every message but the first
says what is done next.
"""

from __future__ import annotations

import json
import mmap
import os
import sys
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from birdsearch.errors import PhotoError
from birdsearch.model.images.box import Box
from birdsearch.model.images.decode import (
    SeenPhoto,
    decode_photo,
    digest_file,
    read_file,
    see_photo,
    will_need,
)
from birdsearch.model.images.exif import CAPTURE_FIELDS, Capture
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.rereading import embeds_again
from birdsearch.model.images.worker.sandbox import (
    kernel_deadline,
    limit_resources,
    prepare_signals,
    silence_stderr,
)

__all__ = ["DECODE", "DO_DECODE", "DO_SEE", "DO_SKIP", "READ", "main", "read_seconds"]

READ, DECODE = "read", "decode"
"""What a worker may say it does next."""
DO_SKIP, DO_SEE, DO_DECODE = "skip", "see", "decode"
"""What the parent may have a worker do with a file that it read."""

_PARENT_POLL_S = 5.0
_READ_SECONDS = 30.0
_READ_BYTES_PER_SECOND = 1 << 20
# A file up to this size is read while the one before it still waits to be decoded.
_READ_AHEAD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class _Task:
    path: bytes
    size: int
    mtime_ns: int
    slot: int
    box: Box | None
    sha256: bool

    @property
    def suffix(self) -> str:
        return os.path.splitext(os.fsdecode(self.path))[1]  # noqa: PTH122


def read_seconds(size: int) -> float:
    """Return how long reading `size` bytes may take: half a minute, and a second for each MiB."""
    return _READ_SECONDS + size / _READ_BYTES_PER_SECOND


def main(arguments: list[str]) -> int:
    """Serve tasks until the connection closes or the parent is gone.

    Args:
        arguments: The file descriptor of the connection, and a JSON object with `input_size`, `max_pixels`,
            `max_bytes`, `deadline_s`, `memory_bytes`, `decode`, and `memory`, the descriptor of the shared memory.

    Returns:
        The exit status.
    """
    prepare_signals()
    settings = json.loads(arguments[1])
    limit_resources(settings["memory_bytes"])
    with Connection(int(arguments[0])) as connection:
        try:
            worker = _Worker(connection, settings)
            worker.say({"kind": "ready"})
            silence_stderr()
            worker.serve()
        except (EOFError, OSError):
            pass
    return 0


class _Worker:
    """Tasks that were sent, files that were read, and what is done next."""

    def __init__(self, connection: Connection, settings: dict[str, Any]) -> None:
        self._connection = connection
        self._parent = os.getppid()
        self._limits = PhotoLimits(settings["max_pixels"], settings["max_bytes"], settings["deadline_s"])
        height, width = settings["input_size"]
        self._input_size = (height, width)
        self._decode_mode = settings["decode"]
        self._memory = mmap.mmap(settings["memory"], 0)
        os.close(settings["memory"])
        self._tasks: deque[_Task] = deque()
        self._files: deque[tuple[_Task, bytes]] = deque()
        self._verdicts: deque[dict[str, Any]] = deque()

    def serve(self) -> None:
        """Serve tasks until the connection closes, the parent is gone, or this process is not fit for more."""
        message: dict[str, Any] | None = None
        while True:
            while self._connection.poll(0):
                self._take()
            step = self._next_step()
            # Nothing begins unannounced, so that a fault can be put down to its step.
            if message is not None:
                self.say({**message, "next": step})
                message = None
            elif step is not None:
                self.say({"kind": "begin", "next": step})
            if step is None:
                if not self._wait():
                    return
                continue
            message = self._read() if step == READ else self._decode()
            if message.get("code") == "out-of-memory":
                # What is left after that is not known.
                self.say({**message, "next": None})
                return

    def say(self, message: dict[str, Any]) -> None:
        self._connection.send_bytes(json.dumps(message).encode())

    def _wait(self) -> bool:
        """Wait for a message and take it; returns False if the parent is gone."""
        while not self._connection.poll(_PARENT_POLL_S):
            # A copy of the parent's end in another process would keep the connection open.
            if os.getppid() != self._parent:
                return False
        self._take()
        return True

    def _take(self) -> None:
        message = json.loads(self._connection.recv_bytes())
        if "path" in message:
            path = bytes.fromhex(message["path"])
            box = None if message["box"] is None else Box(*message["box"])
            self._tasks.append(
                _Task(
                    path, message["size"], message["mtime_ns"], message["slot"], box, bool(message["sha256"])
                )
            )
        else:
            self._verdicts.append(message)

    def _next_step(self) -> str | None:
        while self._verdicts and self._verdicts[0]["do"] == DO_SKIP:
            self._verdicts.popleft()
            self._files.popleft()
        # One file is read ahead, so that its verdict comes while the one before it is decoded.
        if self._tasks and (
            not self._files or (len(self._files) == 1 and self._tasks[0].size <= _READ_AHEAD_BYTES)
        ):
            return READ
        return DECODE if self._verdicts else None

    def _read(self) -> dict[str, Any]:
        task = self._tasks.popleft()
        try:
            with kernel_deadline(read_seconds(task.size)):
                data = read_file(task.path, task, self._limits)
                digests = digest_file(data, sha256=task.sha256)
        except Exception as error:
            return _failure(error)
        self._files.append((task, data))
        return {
            "kind": "digest",
            "picture": digests.picture.hex(),
            "file": digests.file.hex(),
            "sha256": None if digests.sha256 is None else digests.sha256.hex(),
        }

    def _decode(self) -> dict[str, Any]:
        task, data = self._files.popleft()
        verdict = self._verdicts.popleft()
        if self._tasks:
            will_need(self._tasks[0].path, self._tasks[0].size)
        try:
            with kernel_deadline(self._limits.deadline_s):
                if verdict["do"] == DO_SEE:
                    seen = see_photo(data, self._limits, task.suffix)
                    if not _is_new(seen, verdict):
                        return {
                            "kind": "seen",
                            "format": seen.format,
                            "capture": _told(seen.capture),
                            "rendering": seen.rendering,
                        }
                photo = decode_photo(
                    data,
                    input_size=self._input_size,
                    limits=self._limits,
                    suffix=task.suffix,
                    decode=self._decode_mode,
                    box=task.box,
                )
        except Exception as error:
            return _failure(error)
        size = photo.pixels.nbytes
        self._memory[task.slot * size : (task.slot + 1) * size] = photo.pixels.data.cast("B")
        return {
            "kind": "decoded",
            "format": photo.format,
            "width": photo.width,
            "height": photo.height,
            "capture": _told(photo.capture),
            "phash": photo.phash.hex(),
            "sharpness": photo.sharpness,
            "decoded": photo.decoded,
            "rendering": photo.rendering,
        }


def _is_new(seen: SeenPhoto, verdict: dict[str, Any]) -> bool:
    """Return whether a photo whose picture is known looks different from when it was embedded."""
    if verdict["reading"] is None:
        return False
    is_other = verdict["rendering"] is not None and seen.rendering != verdict["rendering"]
    return is_other or embeds_again(verdict["reading"], seen)


def _told(capture: Capture) -> dict[str, object]:
    return {name: value for name in CAPTURE_FIELDS if (value := getattr(capture, name)) is not None}


def _failure(error: Exception) -> dict[str, Any]:
    if isinstance(error, MemoryError):
        error = PhotoError("decode", "out-of-memory", "not enough memory for this file")
    if not isinstance(error, PhotoError):
        # A bug of ours, or of a library where none was expected: one photo's failure, not the run's.
        reason = f"decoding failed: {type(error).__name__}: {error}"
        error = PhotoError("decode", "corrupt", reason)
    return {
        "kind": "failed",
        "stage": error.stage,
        "code": error.code,
        "reason": error.reason,
        "transient": error.transient,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
