"""Long work of the service: one job at a time, in a thread of its own, whose progress clients can follow."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from starlette.exceptions import HTTPException

from birdsearch.errors import BirdsearchError
from birdsearch.indexer.catalog.store import now
from birdsearch.search.job import Job, JobKind
from birdsearch.search.problem import Problem
from birdsearch.search.service.problems import ProblemResponse, as_problem

__all__ = ["JobCancelled", "Jobs", "Task", "Work"]

log = logging.getLogger(__name__)

# Finished jobs that are remembered, and jobs that may wait.
_KEPT, _WAITING = 100, 20
# Between two reports of a job, in seconds: people see no more of them.
_REPORT_S = 0.1
_HEARTBEAT_S = 15.0
# What a job that cannot be stopped gets when the service ends, in seconds; then the process ends without it.
_LAST_S = 5.0


class JobCancelled(BaseException):
    """Ends a job that was cancelled.

    NOTE: no `Exception`, so that the work records its run as interrupted, not failed, as at Ctrl-C.
    """


class Task:
    """A running job, as its work sees it: takes its progress, and says whether to go on."""

    def __init__(self, report: Callable[[str, int, int | None], None]) -> None:
        self._report = report
        self._cancelled = threading.Event()
        self._message = ""
        self._told = 0.0

    def cancel(self) -> None:
        """Ask the work to end."""
        self._cancelled.set()

    def is_cancelled(self) -> bool:
        """Return whether the work is to end."""
        return self._cancelled.is_set()

    def check(self) -> None:
        """Raise if the work is to end.

        Raises:
            JobCancelled: It is.
        """
        if self._cancelled.is_set():
            raise JobCancelled

    def progress(self, message: str, done: int = 0, total: int | None = None) -> None:
        """Report how it goes; may be called as often as there is news, by any thread.

        Args:
            message: The present step, for a person.
            done: How much of it is done.
            total: Of how much.

        Raises:
            JobCancelled: The work is to end.
        """
        self.check()
        moment = time.monotonic()
        if message != self._message or done == total or moment - self._told >= _REPORT_S:
            self._message, self._told = message, moment
            self._report(message, done, total)


Work = Callable[[Task], Mapping[str, Any]]
"""Does a job; gives its result in JSON types, with `interrupted` true if it stopped early and says what it did."""


@dataclass(slots=True)
class _Entry:
    job: Job
    work: Work | None
    task: Task
    key: Hashable


class Jobs:
    """The jobs of a service, one of which runs at a time.

    Args:
        known: The folders that errors may name, as `birdsearch.search.service.problems.as_problem` takes them.
    """

    def __init__(self, known: Callable[[], Mapping[str, str] | None]) -> None:
        self._known = known
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._entries: dict[int, _Entry] = {}
        self._queue: queue.SimpleQueue[_Entry | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._wakers: set[Callable[[], None]] = set()

    # -- asking for work ---------------------------------------------------------------------------------

    def start(self, kind: JobKind, work: Work, key: Hashable = None) -> Job:
        """Queue work behind what waits already.

        Args:
            kind: What it is.
            work: Does it.
            key: What it does, exactly; if work of this key waits or runs already, that is the job.

        Returns:
            The job.

        Raises:
            HTTPException: Too many jobs wait, or the service is stopping (503).
        """
        with self._lock:
            waiting = [entry for entry in self._entries.values() if not entry.job.is_finished]
            for entry in waiting:
                if key is not None and entry.key == key and not entry.task.is_cancelled():
                    return entry.job
            if self._stopping.is_set():
                raise HTTPException(503, "the service is stopping")
            if len(waiting) > _WAITING:
                raise HTTPException(
                    503,
                    f"{len(waiting)} jobs wait already; try again when some are done",
                    {"Retry-After": "30"},
                )
            job_id = next(self._ids)
            job = Job(job_id, kind, "queued", now())
            task = Task(
                lambda message, done, total: self._change(job_id, message=message, done=done, total=total)
            )
            entry = self._entries[job_id] = _Entry(job, work, task, key)
            self._forget_old()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="birdsearch-jobs", daemon=True)
                self._thread.start()
        self._queue.put(entry)
        self._wake()
        return job

    def cancel(self, job_id: int) -> Job | None:
        """Ask a job to end; one that runs ends at its next step that can be stopped.

        Returns:
            The job as it is now, None if there is none of this number.
        """
        with self._lock:
            entry = self._entries.get(job_id)
            if entry is None:
                return None
            entry.task.cancel()
            if entry.job.state == "queued":
                entry.job = replace(entry.job, state="cancelled", finished_at=now())
                entry.work = None
            job = entry.job
        self._wake()
        return job

    def get(self, job_id: int) -> Job | None:
        """Return a job as it is now, or None."""
        with self._lock:
            entry = self._entries.get(job_id)
            return None if entry is None else entry.job

    def list(self) -> tuple[Job, ...]:
        """Return the jobs that are remembered, the newest first."""
        with self._lock:
            return tuple(entry.job for entry in reversed(self._entries.values()))

    def unfinished(self, key: Hashable) -> Job | None:
        """Return the job of a key that waits or runs, or None."""
        with self._lock:
            for entry in self._entries.values():
                if entry.key == key and not entry.job.is_finished:
                    return entry.job
        return None

    async def follow(self, job_id: int, heartbeat_s: float = _HEARTBEAT_S) -> AsyncIterator[Job | None]:
        """Yield a job as it is now, and whenever that changes; ends when the job or the service does.

        Args:
            job_id: The job.
            heartbeat_s: After so many seconds without a change None is given.
        """
        loop, changed = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            # The loop may have ended before those who listen to it could say so.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(changed.set)

        with self._waking(wake):
            seen: Job | None = None
            while True:
                changed.clear()
                job = self.get(job_id)
                if job is None:
                    return
                if job is not seen:
                    seen = job
                    yield job
                if job.is_finished or self._stopping.is_set():
                    return
                try:
                    await asyncio.wait_for(changed.wait(), heartbeat_s)
                except TimeoutError:
                    yield None

    @contextlib.contextmanager
    def _waking(self, wake: Callable[[], None]) -> Iterator[None]:
        with self._lock:
            self._wakers.add(wake)
        try:
            yield
        finally:
            with self._lock:
                self._wakers.discard(wake)

    def _wake(self) -> None:
        with self._lock:
            wakers = list(self._wakers)
        for wake in wakers:
            wake()

    # -- doing it ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        while (entry := self._queue.get()) is not None:
            with self._lock:
                work, entry.work = entry.work, None
                if work is None or entry.job.is_finished:
                    continue
                entry.job = replace(entry.job, state="running", started_at=now())
            self._wake()
            self._finish(entry, work)

    def _finish(self, entry: _Entry, work: Work) -> None:
        job_id = entry.job.id
        try:
            entry.task.check()
            result = work(entry.task)
        except JobCancelled:
            self._change(job_id, state="cancelled", finished_at=now())
        except Exception as error:
            problem = self._problem(entry.job, error)
            self._change(job_id, state="failed", finished_at=now(), error=problem)
        else:
            state = "cancelled" if result.get("interrupted") else "done"
            self._change(job_id, state=state, finished_at=now(), result=dict(result))

    def _problem(self, job: Job, error: Exception) -> Problem:
        if isinstance(error, BirdsearchError):
            response = as_problem(error, self._known())
        elif isinstance(error, HTTPException):
            response = ProblemResponse(error.status_code, error.detail)
        else:
            log.error("job %d (%s) failed", job.id, job.kind, exc_info=error)
            response = ProblemResponse(500, "internal error")
        return Problem.from_dict(json.loads(bytes(response.body)))

    def _change(self, job_id: int, **values: Any) -> None:
        with self._lock:
            entry = self._entries[job_id]
            entry.job = replace(entry.job, **values)
        self._wake()

    def _forget_old(self) -> None:
        finished = [job_id for job_id, entry in self._entries.items() if entry.job.is_finished]
        for job_id in finished[: max(0, len(finished) - _KEPT)]:
            del self._entries[job_id]

    # -- ending ------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Cancel every job and end everything that follows one; does not wait."""
        self._stopping.set()
        for job in self.list():
            if not job.is_finished:
                self.cancel(job.id)
        self._wake()

    def close(self) -> None:
        """Stop, and wait a little for the job that runs."""
        self.stop()
        self._queue.put(None)
        if self._thread is not None:
            self._thread.join(_LAST_S)
            if self._thread.is_alive():
                # Every transaction of the catalog is whole or not at all, so that nothing is lost.
                log.warning("a job that cannot be stopped is cut off with the process")
