"""Makers of thumbnails: processes that may crash, hang or run out of memory without harm."""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

from birdsearch.errors import BirdsearchError, PhotoError
from birdsearch.model.images.box import Box
from birdsearch.model.images.photo import PhotoLimits
from birdsearch.model.images.worker.process import signal_name
from birdsearch.model.images.worker.sandbox import worker_environment

__all__ = ["ThumbMakers", "ThumbMakersBusyError", "ThumbTask"]

_COMMAND = (sys.executable, "-P", "-m", "birdsearch.search.service.thumb_worker")
_LIMITS = PhotoLimits(deadline_s=10.0)
_MEMORY_BYTES = 3 << 30
# Reading, beside decoding: from a slow disk or a network share.
_READ_S = 10.0
_START_S = 60.0
_END_S = 0.5
# A killed process is gone at once, unless the kernel holds it.
_COLLECT_S = 5.0
# What a process sends after its first byte comes at once.
_MESSAGE_S = 5
_HEADER_BYTES = 1 << 16
_THUMB_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class ThumbTask:
    """A thumbnail to make.

    Attributes:
        digest: Digest of the picture that the file must show, in hex.
        side: Pixels of the longer side.
        encoding: A key of `birdsearch.search.service.thumb_worker.ENCODINGS`.
        suffix: Suffix of the file's name.
        box: The region that is shown, or None for the whole frame.
    """

    digest: str
    side: int
    encoding: str
    suffix: str = ""
    box: Box | None = None


class ThumbMakersBusyError(BirdsearchError):
    """Others keep all processes busy."""


class _LostError(Exception):
    """The process is gone, or says what no worker says."""


class _Maker:
    """One process and the connection to it; used by one thread at a time."""

    def __init__(self, command: Sequence[str], settings: dict[str, Any]) -> None:
        self._files, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno()), json.dumps(settings)],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=worker_environment(),
                    # Ctrl-C on a terminal goes to the foreground group; the parent alone is to get it.
                    process_group=0,
                )
        except BaseException:
            self._files.close()
            raise
        limit = struct.pack("ll", _MESSAGE_S, 0)
        self._files.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
        self._files.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self._connection = Connection(self._files.dup().detach())

    @property
    def process_id(self) -> int:
        return self._process.pid

    def wait_until_ready(self) -> None:
        if self._hear(time.monotonic() + _START_S)["kind"] != "ready":
            raise _LostError

    def make(self, descriptor: int, task: ThumbTask, deadline: float) -> bytes:
        message = {
            "digest": task.digest,
            "side": task.side,
            "encoding": task.encoding,
            "suffix": task.suffix,
            "box": None if task.box is None else [task.box.x, task.box.y, task.box.w, task.box.h],
            "deadline_s": deadline - time.monotonic(),
        }
        try:
            socket.send_fds(self._files, [b"f"], [descriptor])
            self._connection.send_bytes(json.dumps(message).encode())
        except OSError as error:
            raise _LostError from error
        answer = self._hear(deadline)
        try:
            if answer["kind"] == "made":
                return self._receive(deadline, _THUMB_BYTES)
            raise PhotoError(
                str(answer["stage"]),
                str(answer["code"]),
                str(answer["reason"]),
                transient=bool(answer["transient"]),
            )
        except KeyError as error:
            raise _LostError from error

    def _hear(self, deadline: float) -> dict[str, Any]:
        try:
            answer = json.loads(self._receive(deadline, _HEADER_BYTES))
        except ValueError as error:
            raise _LostError from error
        if not isinstance(answer, dict) or "kind" not in answer:
            raise _LostError
        return answer

    def _receive(self, deadline: float, limit: int) -> bytes:
        try:
            if not self._connection.poll(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            return self._connection.recv_bytes(limit)
        except TimeoutError:
            raise
        except (EOFError, OSError) as error:
            raise _LostError from error

    def kill(self) -> None:
        """Kill the process; the thread that waits for it gets an error."""
        self._process.kill()

    def end(self) -> int:
        """End the process, and collect it; returns its status as `subprocess` gives it."""
        self._connection.close()
        self._files.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # An idle one goes now, and one that died of itself is told from one that is killed here.
            self._process.wait(timeout=_END_S)
        self._process.kill()
        try:
            return self._process.wait(timeout=_COLLECT_S)
        except subprocess.TimeoutExpired:
            # Killed, but inside a file system that does not answer: the system ends it when that does.
            return -signal.SIGKILL


class ThumbMakers:
    """Processes that make thumbnails; several threads may ask at once, and wait for each other.

    A process is started when it is first needed. Use it as a context manager, or close it.

    Args:
        workers: Processes at most.
        limits: What one photo may cost.
        command: Program and arguments that start a process; a socket's number and the settings follow.
        read_s: Seconds that reading may take, beside decoding.
    """

    def __init__(
        self,
        workers: int = 2,
        limits: PhotoLimits = _LIMITS,
        *,
        command: Sequence[str] = _COMMAND,
        read_s: float = _READ_S,
    ) -> None:
        self._command = command
        self._deadline_s = limits.deadline_s + read_s
        self._settings = {
            "max_pixels": limits.max_pixels,
            "max_bytes": limits.max_bytes,
            "deadline_s": limits.deadline_s,
            "memory_bytes": _MEMORY_BYTES,
        }
        # A slot for each process; None where there is none yet. The one used last is taken first.
        self._idle: queue.LifoQueue[_Maker | None] = queue.LifoQueue()
        self._workers = workers
        self._lock = threading.Lock()
        self._running: set[_Maker] = set()
        self._closed = False
        for _ in range(workers):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def process_ids(self) -> tuple[int, ...]:
        """Process ids of those that there are now."""
        with self._lock:
            return tuple(maker.process_id for maker in self._running)

    def make(self, descriptor: int, task: ThumbTask) -> bytes:
        """Make a thumbnail of an open file.

        Args:
            descriptor: The file, opened with `birdsearch.model.images.file_io.OPEN_FLAGS`; it stays open.
            task: What of it.

        Returns:
            The encoded thumbnail.

        Raises:
            PhotoError: It cannot be read (stage `read`) or decoded (`format`, `decode`).
            ThumbMakersBusyError: None of the processes came free for as long as one photo may take.
            BirdsearchError: Processes do not start, or this is closed.
        """
        try:
            maker = self._idle.get(timeout=self._deadline_s)
        except queue.Empty:
            raise ThumbMakersBusyError("all that make thumbnails are busy; try again") from None
        try:
            if self._closed:
                raise BirdsearchError("the service is stopping")
            if maker is None:
                maker = self._start()
            try:
                return maker.make(descriptor, task, time.monotonic() + self._deadline_s)
            except TimeoutError:
                self._end(maker)
                maker = None
                reason = f"reading and decoding took longer than {self._deadline_s:g} s"
                raise PhotoError("decode", "deadline", reason) from None
            except _LostError:
                status = self._end(maker)
                maker = None
                if self._closed:
                    raise BirdsearchError("the service is stopping") from None
                raise _crashed(status) from None
            except PhotoError as error:
                if error.code == "out-of-memory":
                    self._end(maker)
                    maker = None
                raise
        finally:
            self._idle.put(maker)

    def _start(self) -> _Maker:
        maker = _Maker(self._command, self._settings)
        with self._lock:
            self._running.add(maker)
        try:
            maker.wait_until_ready()
        except BaseException as error:
            self._end(maker)
            if isinstance(error, _LostError | TimeoutError):
                raise BirdsearchError("the processes that make thumbnails do not start") from error
            raise
        return maker

    def _end(self, maker: _Maker) -> int:
        with self._lock:
            self._running.discard(maker)
        return maker.end()

    def close(self) -> None:
        """End all processes, whatever they are doing; closing twice is harmless."""
        with self._lock:
            self._closed = True
            running = list(self._running)
        for maker in running:
            # The thread that waits for it gets an error.
            maker.kill()
        until = time.monotonic() + self._deadline_s
        slots: list[_Maker | None] = []
        # A thread that has one and does not come back is left behind.
        with contextlib.suppress(queue.Empty):
            while len(slots) < self._workers:
                slots.append(self._idle.get(timeout=max(0.0, until - time.monotonic())))
        for slot in slots:
            if slot is not None:
                self._end(slot)
            self._idle.put(None)


def _crashed(status: int) -> PhotoError:
    if status == -signal.SIGKILL:
        reason = "the decoder was killed (SIGKILL), as the system does when memory runs out"
        return PhotoError("decode", "crashed", reason, transient=True)
    how = signal_name(-status) if status < 0 else f"exit status {status}"
    return PhotoError("decode", "crashed", f"the decoder crashed: {how}")
