"""Batching: requests that come at the same time are answered together, by one thread.

Questions that come while a batch is being answered are in the next one. So the busier the service, the larger the
batches, and what can only be done by one thread at a time needs no lock. A batch can be held open for a moment: a
small one costs nearly as much as a large one, and while it is answered all others wait.
"""

from __future__ import annotations

import asyncio
import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from birdsearch.errors import CatalogError, StalledError

__all__ = ["ANSWER_S", "Batcher"]

ANSWER_S = 60.0
"""How long a batch may take, in seconds; no question waits longer, and the worker is taken to hang."""

_ADVICE = "try again later; if it stays so, the service has to be started anew"
# Seconds that a batch gets to be answered when this is closed.
_LAST_S = 5.0

Q = TypeVar("Q")
A = TypeVar("A")


class Batcher(Generic[Q, A]):
    """Answers questions in batches. Several threads may ask at once.

    A question that cannot be answered fails alone: where a batch fails, its questions are asked one by one.

    Args:
        answer: Answers questions, in their order; only ever called by the one thread.
        most: Questions in a batch.
        name: Of the thread.
        what: What answers, for messages.
        window_s: How long a batch that is not full is held open at most.
        gap_s: How long it is held open for the next question.
        answer_s: How long a batch may take before what answers is taken to hang.
        expected: How many more questions are on their way; none are waited for at 0. By default those
            that were answered together are expected to ask again together.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Q]], Sequence[A]],
        *,
        most: int,
        name: str,
        what: str = "the answer",
        window_s: float = 0.0,
        gap_s: float = math.inf,
        answer_s: float = ANSWER_S,
        expected: Callable[[], int] | None = None,
    ) -> None:
        self._answer = answer
        self._most = most
        self._window_s = window_s
        self._gap_s = gap_s
        self._expected = expected
        self._what = what
        self._answer_s = answer_s
        # When the batch that is being answered was begun, on the monotonic clock.
        self._begun: float | None = None
        self._before = 0
        self._asked: queue.SimpleQueue[tuple[Q, Future[A]] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, question: Q) -> Future[A]:
        """Ask; the answer, or the reason why there is none, comes in a future.

        Raises:
            CatalogError: The service is stopping.
            StalledError: What answers hangs.
        """
        if (seconds := self.stalled_s) is not None:
            raise StalledError.of(self._what, seconds, _ADVICE)
        asked: Future[A] = Future()
        with self._closing:
            if self._is_closed:
                raise CatalogError("the service is stopping")
            self._asked.put((question, asked))
        return asked

    async def ask(self, question: Q) -> A:
        """Ask, and wait for the answer as long as one may take.

        Raises:
            CatalogError: The service is stopping.
            StalledError: What answers hangs.
        """
        try:
            async with asyncio.timeout(self._answer_s) as limit:
                return await asyncio.wrap_future(self.submit(question))
        except TimeoutError:
            if not limit.expired():
                raise
            raise StalledError.of(self._what, self._answer_s, _ADVICE) from None

    @property
    def stalled_s(self) -> float | None:
        """For how long there was no answer, if that is longer than one may take."""
        begun = self._begun
        seconds = 0.0 if begun is None else time.monotonic() - begun
        return seconds if seconds > self._answer_s else None

    def close(self) -> None:
        """Answer what was asked, and end; a batch that hangs is left behind."""
        with self._closing:
            if not self._is_closed:
                self._is_closed = True
                self._asked.put(None)
        self._thread.join(_LAST_S)

    def _run(self) -> None:
        is_open = True
        while is_open:
            batch, is_open = self._next_batch()
            # Those whose client has gone are not worth the work.
            waiting = [(question, asked) for question, asked in batch if asked.set_running_or_notify_cancel()]
            if waiting:
                self._begun = time.monotonic()
                self._settle(waiting)
                self._begun = None

    def _next_batch(self) -> tuple[list[tuple[Q, Future[A]]], bool]:
        """Return what is there, at least one question; and whether more may come."""
        batch: list[tuple[Q, Future[A]]] = []
        until = now = 0.0
        while len(batch) < self._most:
            try:
                if not batch:
                    # As long as there is no question; `close` ends it.
                    item = self._asked.get()
                elif self._expects_more(len(batch)):
                    item = self._asked.get(timeout=max(0.0, min(until, now + self._gap_s) - time.monotonic()))
                else:
                    item = self._asked.get_nowait()
            except queue.Empty:
                break
            if item is None:
                return batch, False
            batch.append(item)
            now = time.monotonic()
            until = until or now + self._window_s
        self._before = len(batch)
        return batch, True

    def _expects_more(self, held: int) -> bool:
        return held < self._before if self._expected is None else self._expected() > 0

    def _settle(self, waiting: Sequence[tuple[Q, Future[A]]]) -> None:
        try:
            answers = self._answer([question for question, _ in waiting])
        except Exception as error:
            if len(waiting) == 1:
                waiting[0][1].set_exception(error)
                return
            for one in waiting:
                self._settle([one])
            return
        for (_, asked), answer in zip(waiting, answers, strict=True):
            asked.set_result(answer)
