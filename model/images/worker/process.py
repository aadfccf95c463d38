"""One decoder process as its parent sees it: its connection, the tasks that it has, and what it is doing.

A process has a few tasks in hand, so that neither side waits for the other. It says what it does next before it
begins, which is how a crash or a delay is laid at the door of one photo and no other.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.model.images.box import Box
from birdsearch.model.images.decode import FileDigests
from birdsearch.model.images.worker.child import DO_DECODE, DO_SEE, DO_SKIP, READ, read_seconds
from birdsearch.model.images.worker.sandbox import worker_environment

__all__ = ["GRACE_S", "HELD_TASKS", "DecodeTask", "Held", "Verdict", "WorkerProcess", "signal_name"]

HELD_TASKS = 3
"""Tasks that a process may have in hand at once."""
GRACE_S = 1.0
"""Decoding that looks at the time itself ends by itself; this much later it is ended from outside."""

_START_S = 120.0
# A killed process is gone at once, unless the kernel holds it.
_COLLECT_S = 5.0
# A process that waits takes up what it is sent within this time, on the busiest machine.
_WAKE_S = 60.0
_HEADER_BYTES = 1 << 20
# Beside the first task, others are only given while all are small together, or as the one to read ahead.
_MANY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class DecodeTask:
    """A file to decode.

    Attributes:
        key: Whatever the caller knows it by; it stays in this process.
        path: Absolute path.
        size: Bytes, as the crawl saw it.
        mtime_ns: Time of the last change of the content, as the crawl saw it.
        box: The region that is wanted; None for the whole frame.
        sha256: Take the file's SHA-256 beside its digests.
    """

    key: Any
    path: bytes
    size: int
    mtime_ns: int
    box: Box | None = None
    sha256: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done with a file whose digests are known.

    Attributes:
        do: `DO_SKIP`, `DO_SEE` (read its metadata) or `DO_DECODE`.
        reading: For `DO_SEE`: the reading that the photo's vector was made by, so that the photo is decoded where
            that is out of date; None never to decode it.
        rendering: For `DO_SEE` with a reading: the photo is decoded where it is shown otherwise; None for any.
    """

    do: str = DO_DECODE
    reading: int | None = None
    rendering: str | None = None

    @classmethod
    def skip(cls) -> Verdict:
        """Return the verdict on a file that is known: nothing is done with it."""
        return cls(DO_SKIP)

    @classmethod
    def see(cls, reading: int | None = None, rendering: str | None = None) -> Verdict:
        """Return the verdict on a file whose picture is known: its metadata is read."""
        return cls(DO_SEE, reading, rendering)


@dataclass(slots=True, eq=False)
class Held:
    """A task that a process has.

    Attributes:
        task: The task.
        is_retry: A process has died over it before.
        slot: Which part of the shared memory is for its pixels.
        digests: Of the file, once it was read.
        verdict: What is to be done with it then.
    """

    task: DecodeTask
    is_retry: bool
    slot: int
    digests: FileDigests | None = None
    verdict: Verdict | None = None


class WorkerProcess:
    """One process, the connection to it, and the tasks that it has.

    Attributes:
        process: The process.
        connection: Our end of the connection to it.
        is_ready: It has started and serves tasks.
        held: Its tasks in the order in which it got them.
        doing: The task that it says it is at, if any.
        deadline: When it has taken too long, on the monotonic clock.
    """

    def __init__(self, command: Sequence[str], settings: dict[str, Any], shape: tuple[int, int, int]) -> None:
        """Start the process.

        Args:
            command: Program and arguments; a socket's number and the settings follow.
            settings: What it is to know, in JSON types.
            shape: (H, W, 3) of the pixels it gives.

        Raises:
            OSError: The system gives no process, socket or memory.
        """
        self._shape = shape
        self._bytes = int(np.prod(shape))
        ours, theirs = socket.socketpair()
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115
        # Pixels are handed over in memory that both sides see; the connection carries what they are about.
        memory = _shared_file(HELD_TASKS * self._bytes)
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [*command, str(theirs.fileno()), json.dumps({**settings, "memory": memory})],
                    pass_fds=(theirs.fileno(), memory),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                    env=worker_environment(),
                    # Ctrl-C on a terminal goes to the foreground group; the parent alone is to get it.
                    process_group=0,
                )
            self._memory = mmap.mmap(memory, HELD_TASKS * self._bytes, access=mmap.ACCESS_READ)
        except BaseException:
            ours.close()
            self._log.close()
            raise
        finally:
            os.close(memory)
        self.connection = Connection(ours.detach())
        self.is_ready = False
        self.held: list[Held] = []
        self.doing: Held | None = None
        self.deadline = time.monotonic() + _START_S

    @property
    def is_busy(self) -> bool:
        """It has something to do, or is starting."""
        return bool(self.held) or not self.is_ready

    def takes(self, task: DecodeTask) -> bool:
        """Return whether the worker may get a task on top of those that it has."""
        if not self.is_ready or len(self.held) >= HELD_TASKS:
            return False
        return len(self.held) < 2 or sum(one.task.size for one in self.held) + task.size <= _MANY_BYTES

    def give(self, task: DecodeTask, *, is_retry: bool) -> None:
        """Send a task; `takes` has said that there is room."""
        slot = min(set(range(HELD_TASKS)) - {one.slot for one in self.held})
        self.held.append(Held(task, is_retry, slot))
        box = None if task.box is None else [task.box.x, task.box.y, task.box.w, task.box.h]
        path = task.path.hex()
        self._send(
            {
                "path": path,
                "size": task.size,
                "mtime_ns": task.mtime_ns,
                "slot": slot,
                "box": box,
                "sha256": task.sha256,
            }
        )

    def answer(self, verdict: Verdict) -> None:
        """Send the verdict on the task whose digests the worker just sent."""
        self._send({"do": verdict.do, "reading": verdict.reading, "rendering": verdict.rendering})

    def _send(self, message: dict[str, Any]) -> None:
        # If the worker is gone, that shows, and is dealt with, when its connection is read.
        with contextlib.suppress(OSError):
            self.connection.send_bytes(json.dumps(message).encode())
        if self.doing is None:
            self.deadline = time.monotonic() + _WAKE_S

    def hear(self) -> dict[str, Any]:
        """Return the worker's next message.

        Raises:
            EOFError: The connection is closed.
            OSError: It cannot be read.
            ValueError: It is not what a worker says.
        """
        message = json.loads(self.connection.recv_bytes(_HEADER_BYTES))
        if not isinstance(message, dict):
            raise ValueError(f"a worker sent a {type(message).__name__}")
        return message

    def begins(self, step: object, deadline_s: float) -> None:
        """Note what the process says it does next: `read`, `decode`, or nothing until it hears more."""
        if step is None:
            self.doing = None
            self.deadline = time.monotonic() + _WAKE_S
            return
        is_read = step == READ
        self.doing = next(one for one in self.held if (one.digests is None) == is_read)
        allowed = read_seconds(self.doing.task.size) if is_read else deadline_s
        self.deadline = time.monotonic() + allowed + GRACE_S

    def pixels(self, held: Held) -> NDArray[np.uint8]:
        """Return a copy of the pixels that the worker made of a task."""
        found = np.frombuffer(self._memory, np.uint8, self._bytes, held.slot * self._bytes)
        # (H * W * 3,) -> (H, W, 3)
        return found.reshape(self._shape).copy()

    def end(self) -> int:
        """Kill the process if it runs, and collect it; returns its status as `subprocess` gives it."""
        self.connection.close()
        self.process.kill()
        try:
            status = self.process.wait(timeout=_COLLECT_S)
        except subprocess.TimeoutExpired:
            # Killed, but inside a file system that does not answer: the system ends it when that does.
            status = -signal.SIGKILL
        self._log.close()
        self._memory.close()
        return status

    def last_words(self) -> str:
        """Return the last line that the worker wrote on its standard error before it was ready."""
        self._log.seek(0)
        lines = self._log.read(1 << 16).decode("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


def signal_name(number: int) -> str:
    """Return a signal's name, such as `SIGSEGV`."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _shared_file(size: int) -> int:
    """Return the descriptor of a nameless file of a size, in memory where the system allows it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("birdsearch-decode", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    os.ftruncate(descriptor, size)
    return descriptor
