"""A run that is watched: its stages give signs of life, and one that gives none for too long ends the run.

The work is done in threads of its own; the thread that asked for it only waits and watches. So whatever a stage is
stuck in, Python or a library that lets other threads run, the caller gets an error, and Ctrl-C is answered at once.
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from birdsearch.errors import StalledError
from birdsearch.settings import STALL_S

__all__ = ["STOP_S", "RunStopped", "Watch"]

T = TypeVar("T")

STOP_S = 15.0
"""Seconds that a run which has to stop gets to write what is in hand; then it is left where it is."""

_TICK_S = 0.1
# A longer time between two ticks is not silence of the stages: the process or the machine was asleep.
_LONGEST_TICK_S = 1.0
_ADVICE = "if this machine is only slow, allow more with BIRDSEARCH_STALL_SECONDS"


class RunStopped(BaseException):
    """The run has to stop; raised in its threads, and never seen by its caller."""


class Watch:
    """Watches the stages of one run.

    Args:
        limit_s: How long a stage that is at work may give no sign of life, in seconds; 0 for as long as it likes.
        kept: What the error says is kept, as a clause with `; ` after it.
        on_tick: Called, several times a second and by the thread that waits, with the stages at work.
    """

    def __init__(
        self, limit_s: float = STALL_S, kept: str = "", on_tick: Callable[[str], None] = lambda _: None
    ) -> None:
        self._limit_s = limit_s
        self._kept = kept
        self._on_tick = on_tick
        self._stopped = threading.Event()
        # Seconds that were watched, and when each stage that is at work, and any at all, gave its last sign.
        self._clock = self._latest = 0.0
        self._signs: dict[str, float] = {}

    # -- for the threads that work -----------------------------------------------------------------------

    @property
    def is_stopped(self) -> bool:
        """True if the run is to end."""
        return self._stopped.is_set()

    def check(self) -> None:
        """Go on only if the run is not to end.

        Raises:
            RunStopped: It is.
        """
        if self._stopped.is_set():
            raise RunStopped

    def sign(self, stage: str) -> None:
        """Say that a stage which is at work lives, and go on only if the run is not to end.

        Raises:
            RunStopped: It is.
        """
        self.check()
        self._signs[stage] = self._latest = self._clock

    @contextlib.contextmanager
    def at_work(self, stage: str) -> Iterator[Callable[[], None]]:
        """Say that a stage is at work for as long as the block runs; not while it waits for another stage.

        Args:
            stage: Its name, with an article, which is what the error says.

        Yields:
            `sign` of this stage.
        """
        self._signs[stage] = self._latest = self._clock
        try:
            yield functools.partial(self.sign, stage)
        finally:
            self._signs.pop(stage, None)
            self._latest = self._clock

    # -- for the thread that waits -----------------------------------------------------------------------

    def run(self, work: Callable[[], T]) -> T:
        """Have work done by another thread, and watch it.

        Args:
            work: The work.

        Returns:
            What it returns; what it raises is raised.

        Raises:
            StalledError: A stage gave no sign for too long; a thread is still in it.
            KeyboardInterrupt: Or whatever else a signal raises in this thread. The work was stopped, and has
                ended unless that took longer than `STOP_S`.
        """
        found: list[T] = []
        failed: list[BaseException] = []
        done = threading.Event()

        def body() -> None:
            try:
                found.append(work())
            except BaseException as error:
                failed.append(error)
            finally:
                done.set()

        threading.Thread(target=body, name="birdsearch-run", daemon=True).start()
        try:
            self._wait(done)
        except StalledError:
            self._stopped.set()
            raise
        except BaseException:
            self._stopped.set()
            done.wait(STOP_S)
            raise
        if failed:
            raise failed[0]
        return found[0]

    def _wait(self, done: threading.Event) -> None:
        before = time.monotonic()
        while not done.wait(_TICK_S):
            moment = time.monotonic()
            self._clock += min(moment - before, _LONGEST_TICK_S)
            before = moment
            signs = dict(self._signs)
            self._on_tick(", ".join(signs) or "nothing")
            if not self._limit_s:
                continue
            # Where none is at work, all of them wait for each other.
            stage, latest = min(signs.items(), key=lambda item: item[1], default=("the run", self._latest))
            if self._clock - latest > self._limit_s:
                raise StalledError.of(stage, self._clock - latest, f"{self._kept}{_ADVICE}")
