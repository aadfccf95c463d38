"""Advisory locks of a catalog's writers, which name their holders."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import IO

from birdsearch.errors import CatalogLockedError, CatalogReadOnlyError

__all__ = ["EDIT_LOCK", "JOB_LOCK", "TURN_LOCK", "WriterLock"]

JOB_LOCK = "lock"
"""Held by the one long piece of work that writes to a catalog, for as long as it runs."""
EDIT_LOCK = "lock-edit"
"""Held for what a person changes: moments, also while a job runs."""
TURN_LOCK = "lock-turn"
"""Held for one write transaction of any process, and while the write-ahead log is folded back."""

# Between two looks whether a lock is free, in seconds; the first look again is early, the later ones are less so.
_SHORTEST_LOOK_S, _LONGEST_LOOK_S = 0.002, 0.05


class WriterLock:
    """Exclusive `flock` on a file in the catalog; released by the kernel when the process ends.

    Args:
        path: The lock file.
        purpose: What the holder does, shown to a process that finds the lock taken.
        wait_s: How long a lock that is taken is waited for, in seconds.
    """

    def __init__(self, path: Path, purpose: str, wait_s: float = 0.0) -> None:
        self._path = path
        self._purpose = purpose
        self._wait_s = wait_s
        self._file: IO[bytes] | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            CatalogLockedError: Another holds it, and did for as long as it was waited for; the message names it.
            CatalogReadOnlyError: The lock file cannot be written.
        """
        try:
            # Without a buffer: what a full disk did not take is not tried again when the file is closed.
            file = self._path.open("ab+", buffering=0)
        except OSError as error:
            raise CatalogReadOnlyError(
                f"{self._path.parent}: the catalog cannot be written ({error.strerror}); searching it still works"
            ) from error
        try:
            self._lock(file)
        except OSError as error:
            file.seek(0)
            taken = _describe(file.read().decode(errors="replace"))
            file.close()
            raise CatalogLockedError(
                f"{self._path.parent}: {taken} is writing to this catalog; wait for it to end or stop it "
                "(searching works meanwhile)"
            ) from error
        self._file = file
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "purpose": self._purpose}
        # The lock holds without a name in its file, as on a full disk.
        with contextlib.suppress(OSError):
            file.truncate(0)
            file.write(json.dumps(holder).encode())

    def _lock(self, file: IO[bytes]) -> None:
        end, look_s = time.monotonic() + self._wait_s, _SHORTEST_LOOK_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                if time.monotonic() >= end:
                    raise
                time.sleep(look_s)
                look_s = min(2 * look_s, _LONGEST_LOOK_S)
            else:
                return

    def release(self) -> None:
        """Give the lock back; does nothing if it is not held."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> WriterLock:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _describe(text: str) -> str:
    try:
        holder = json.loads(text)
        return f"process {holder['pid']} on {holder['host']} ({holder['purpose']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
