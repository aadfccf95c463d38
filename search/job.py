"""Long work of a service: frozen, and the same for JSON, OpenAPI and the client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from birdsearch.search.json_records import Record
from birdsearch.search.problem import Problem

__all__ = ["Job", "JobKind", "JobState"]

JobKind = Literal["index", "label", "duplicates", "apply", "undo", "sightings", "cluster", "map"]
JobState = Literal["queued", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class Job(Record):
    """What is known of a job at one moment.

    Attributes:
        id: Its number, from 1 on; jobs are forgotten when the service stops.
        kind: What it does.
        state: How far it has come.
        created_at: When it was asked for, UTC, ISO 8601.
        done: How much of the present step is done.
        total: Of how much, or None while that is not known.
        message: The present step, for a person.
        started_at: When it began, UTC, ISO 8601, or None.
        finished_at: When it ended, UTC, ISO 8601, or None.
        result: What came of it, in JSON types; None until it has ended.
        error: Why it failed, or None.
    """

    id: int
    kind: JobKind
    state: JobState
    created_at: str
    done: int = 0
    total: int | None = None
    message: str = ""
    started_at: str | None = None
    finished_at: str | None = None
    result: Mapping[str, Any] | None = field(default=None, repr=False)
    error: Problem | None = None

    @property
    def is_finished(self) -> bool:
        """True if nothing about it changes any more."""
        return self.state in ("done", "failed", "cancelled")
