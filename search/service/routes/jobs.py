"""Jobs: their list, their progress, and cancelling them."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Path, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse

from birdsearch.errors import InvalidInputError
from birdsearch.search.job import Job
from birdsearch.search.service.jobs import Task
from birdsearch.search.service.problems import responses
from birdsearch.search.service.schemas.jobs import JobList, accepted
from birdsearch.search.service.state import Service, ServiceDep
from birdsearch.settings import DEFAULT_CONFIDENCE

__all__ = ["router"]

router = APIRouter(prefix="/api/jobs", tags=["jobs"])

JobId = Annotated[int, Path(ge=1, le=2**53, description="Number of the job.")]

# Each event as OpenAPI sees it, with the job as text.
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"const": "progress"},
        "id": {"type": "string"},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/Job"},
        },
    },
    "required": ["event", "data"],
}

# Names the last event: a browser that connects again after it learns that there is no more.
_END = "end"


class JobRequest(BaseModel):
    """Work to be done on the whole catalog."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"kind": "index"}, {"kind": "label"}]}
    )

    kind: Literal["index", "label"] = Field(
        description="`index` looks again for new, changed and missing photos in the folders that were indexed; "
        "`label` labels every photo from the stored vectors and the verified photos."
    )
    confidence: float = Field(
        DEFAULT_CONFIDENCE,
        ge=0,
        le=1,
        description="Of `label`: how sure a label has to be, else it is rolled up.",
    )


@router.get("", responses=responses())
def list_jobs(service: ServiceDep) -> JobList:
    """Return the jobs that are remembered, the newest first."""
    return JobList(tuple(service.jobs.list()))


@router.post("", status_code=202, responses=responses(409, 422))
def start_job(service: ServiceDep, request: JobRequest, response: Response) -> Job:
    """Index the known folders again, or label every photo."""
    service.check_writable()
    if request.kind == "index":
        return accepted(response, service.jobs.start("index", lambda task: _index(service, task), "index"))
    confidence = request.confidence
    job = service.jobs.start("label", lambda task: _label(service, task, confidence), ("label", confidence))
    return accepted(response, job)


@router.get("/{job_id}", responses=responses(404, 422))
def get_job(service: ServiceDep, job_id: JobId) -> Job:
    """Return a job as it is now."""
    return _known(service.jobs.get(job_id), job_id)


@router.delete("/{job_id}", status_code=202, responses=responses(404, 422))
def cancel_job(service: ServiceDep, job_id: JobId) -> Job:
    """Ask a job to end; what it has committed stays, and one that has ended stays as it is."""
    return _known(service.jobs.cancel(job_id), job_id)


@router.get(
    "/{job_id}/events",
    response_class=StreamingResponse,
    responses={
        **responses(404, 422),
        200: {
            "description": "Server-sent events `progress`, each with the job as its data, until it ended.",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
        204: {"description": "The client has seen the last event."},
    },
)
async def job_events(
    service: ServiceDep, job_id: JobId, last_event_id: Annotated[str | None, Header(max_length=64)] = None
) -> Response:
    """Follow a job."""
    _known(service.jobs.get(job_id), job_id)
    if last_event_id == _END:
        return Response(status_code=204)
    return StreamingResponse(
        _events(service, job_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _events(service: Service, job_id: int) -> AsyncIterator[str]:
    async for job in service.jobs.follow(job_id):
        if job is None:
            # A comment: keeps what is in between from closing the connection.
            yield ": still here\n\n"
        else:
            name = f"id: {_END}\n" if job.is_finished else ""
            yield f"event: progress\n{name}data: {json.dumps(job.to_dict())}\n\n"


def _known(job: Job | None, job_id: int) -> Job:
    if job is None:
        raise HTTPException(404, f"no job {job_id}; jobs are forgotten when the service stops")
    return job


# -- the work ------------------------------------------------------------------------------------------------


class _IndexProgress:
    """Passes the progress of an index run to a job."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._scanned = self._committed = 0
        self._planned: int | None = None

    def scanned(self, files: int) -> None:
        self._scanned += files
        if self._planned is None:
            self._task.progress("looking for photos", self._scanned)

    def planned(self, files: int) -> None:
        self._planned = files
        self._task.progress("reading photos", self._committed, files)

    def committed(self, files: int) -> None:
        self._committed += files
        if self._planned is None:
            self._task.progress("looking for photos", self._scanned)
        else:
            self._task.progress("reading photos", self._committed, self._planned)


def _index(service: Service, task: Task) -> Mapping[str, Any]:
    from birdsearch.search.catalog import Catalog

    with service.writing_beside("index") as store:
        roots = [os.fsdecode(path) for _, path in store.roots()]
        if not roots:
            raise InvalidInputError("no folder was indexed yet; run `birdsearch index FOLDER` first")
        # Not closed: the store is not its own.
        summary = Catalog(store.path, store, read_only=False).index(roots, progress=_IndexProgress(task))
    counts = ("new", "copies", "changed", "moved", "unchanged", "missing", "embedded")
    return {
        **{name: getattr(summary, name) for name in counts},
        "failed": sum(summary.failed.values()),
        "failures": summary.failed,
        "seconds": round(summary.seconds, 1),
        "warnings": [service.text_of(warning) for warning in summary.warnings],
    }


def _label(service: Service, task: Task, confidence: float) -> Mapping[str, Any]:
    from birdsearch.search.labels.predict import label_catalog

    task.progress("reading the verified labels")
    with service.writing_beside("label") as store:
        summary = label_catalog(
            store,
            service.catalog.label_estimator(),
            confidence=confidence,
            progress=lambda done, total: task.progress("labelling", done, total),
        )
    return {
        "run": summary.run_id,
        "photos": summary.views,
        "skipped": summary.skipped,
        "ranks": summary.ranks,
        "calibrated": summary.is_calibrated,
    }
