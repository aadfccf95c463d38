"""A watchdog: a small process beside a command that ends it if nothing in it can.

A library that waits for ever while it holds Python's global lock stops every Python thread, and with them what
Python does at a signal: such a process neither sees that it hangs nor answers Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from pathlib import Path

__all__ = ["GRACE_S", "Watchdog"]

GRACE_S = 30.0
"""Seconds that a command gets to end after SIGINT or SIGTERM, or once it is done; then it is killed."""

_PROGRAM = Path(__file__).with_name("watchdog_process.py")
_BEAT_S = 1.0
_ENDING = b"\x04"


class Watchdog:
    """Watches this process from another one, until this one has ended.

    It is told of signals by the part of Python's handler that needs no lock, so a signal has to have a handler.

    Args:
        limit_s: How long this process may give no sign of life, in seconds; 0 for as long as it likes.
        at_work: What this process is doing.
        grace_s: How long it may take to end once it is told to, in seconds.

    Attributes:
        at_work: What this process is doing, for the message.
    """

    def __init__(self, limit_s: float, at_work: str, grace_s: float = GRACE_S) -> None:
        self.at_work = at_work
        self._done = threading.Event()
        theirs, self._pipe = os.pipe()
        # Non-blocking: a watchdog that does not read must not hold up the command.
        os.set_blocking(self._pipe, False)
        arguments = [sys.executable, "-I", "-S", str(_PROGRAM), str(os.getpid()), str(limit_s), str(grace_s)]
        actions = [
            (os.POSIX_SPAWN_DUP2, theirs, 0),
            # It keeps only stderr open: a reader of stdout waits until every copy of it is closed.
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        ]
        try:
            os.posix_spawn(sys.executable, arguments, os.environ, file_actions=actions)
        finally:
            os.close(theirs)
        signal.set_wakeup_fd(self._pipe, warn_on_full_buffer=False)
        threading.Thread(target=self._beat, name="birdsearch-alive", daemon=True).start()

    def note(self, at_work: str) -> None:
        """Say what this process is doing."""
        self.at_work = at_work

    def ending(self) -> None:
        """Say that this process has nothing left to do: from now on it has only so long to exit."""
        self._done.set()
        self._send(_ENDING)

    def _beat(self) -> None:
        while not self._done.is_set():
            self._send(f"{self.at_work}\n".encode())
            self._done.wait(_BEAT_S)

    def _send(self, message: bytes) -> None:
        # A watchdog that is gone, or does not read, is none; the command goes on without it.
        with contextlib.suppress(OSError):
            os.write(self._pipe, message)
