"""Lists of jobs, and the answer of a route that has started one."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Response

from birdsearch.search.job import Job
from birdsearch.search.json_records import Record

__all__ = ["JobList", "accepted"]


@dataclass(frozen=True, slots=True)
class JobList(Record):
    """The jobs that are remembered.

    Attributes:
        jobs: The newest first.
    """

    jobs: tuple[Job, ...]


def accepted(response: Response, job: Job) -> Job:
    """Answer that a job was started: 202, and where to look for it.

    Args:
        response: The response of the route, whose status is 202.
        job: The job.
    """
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return job
