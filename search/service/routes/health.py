"""Health of the service: whether it lives, whether it can answer, and its counters."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Response
from pydantic import BaseModel
from starlette.responses import PlainTextResponse

from birdsearch.errors import BirdsearchError, CatalogGoneError
from birdsearch.search.service.problems import ProblemResponse, responses
from birdsearch.search.service.searching import SearcherDep
from birdsearch.search.service.state import ServiceDep

__all__ = ["router"]

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The service lives."""

    status: Literal["ok"] = "ok"


# NOTE: `async`, so that it is answered while every thread is busy.
@router.get("/healthz", responses=responses())
async def healthz() -> Health:
    """Say that the service lives."""
    return Health()


@router.get("/readyz", response_model=Health, responses=responses(503))
def readyz(service: ServiceDep, searcher: SearcherDep) -> Health | Response:
    """Say whether the catalog can be read, the network answers, and the service is not about to stop."""
    if service.stopping.is_set():
        return ProblemResponse(503, "the service is stopping")
    try:
        service.store.roots()
    except CatalogGoneError:
        return ProblemResponse(503, "the catalog was deleted, moved or replaced: start the service anew")
    except BirdsearchError:
        return ProblemResponse(503, "the catalog cannot be read")
    for what, seconds in (
        ("the network", service.embedder.stalled_s),
        ("the search", searcher.stalled_s),
    ):
        if seconds is not None:
            return ProblemResponse(
                503, f"{what} has given no answer for {seconds:.0f} s: start the service anew"
            )
    return Health()


@router.get("/metrics", response_class=PlainTextResponse, responses=responses())
def metrics(service: ServiceDep) -> Response:
    """Return what was counted, as Prometheus reads it."""
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")
