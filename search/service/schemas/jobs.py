"""Jobs as the API shows them, and how a route answers that it has started one."""

from __future__ import annotations

from typing import Any

from fastapi import Response
from pydantic import BaseModel, ConfigDict, Field
from pydantic.config import JsonDict

from birdsearch.search.service.jobs import Job, JobKind, JobState
from birdsearch.search.service.problems import Problem

__all__ = ["JobList", "JobModel", "accepted", "job_model"]

_EXAMPLE: JsonDict = {
    "id": 3,
    "kind": "duplicates",
    "state": "running",
    "done": 128,
    "total": 512,
    "message": "comparing",
    "created_at": "2026-05-14T06:30:00+00:00",
    "started_at": "2026-05-14T06:30:01+00:00",
    "finished_at": None,
    "result": None,
    "error": None,
}


class JobModel(BaseModel):
    """Long work, and how far it has come."""

    model_config = ConfigDict(json_schema_extra={"examples": [_EXAMPLE]})

    id: int
    kind: JobKind
    state: JobState
    done: int = Field(description="How much of the present step is done.")
    total: int | None = Field(description="Of how much, where that is known.")
    message: str = Field(description="The present step.")
    created_at: str
    started_at: str | None
    finished_at: str | None
    result: dict[str, Any] | None = Field(description="What came of it, once it is done.")
    error: Problem | None = Field(description="Why it failed.")


class JobList(BaseModel):
    """The jobs that are remembered, the newest first."""

    jobs: list[JobModel]


def job_model(job: Job) -> JobModel:
    """A job as the API shows it."""
    return JobModel.model_validate(job, from_attributes=True)


def accepted(response: Response, job: Job) -> JobModel:
    """Answer that a job was started: 202, and where to look for it.

    Args:
        response: The response of the route, whose status is 202.
        job: The job.
    """
    response.headers["Location"] = f"/api/jobs/{job.id}"
    return job_model(job)
