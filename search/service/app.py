"""The service as an ASGI app."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping

import anyio.to_thread
from fastapi import Depends, FastAPI, Request
from starlette.concurrency import run_in_threadpool

from birdsearch.search.service import openapi, problems, security
from birdsearch.search.service.admission import RequestLimit
from birdsearch.search.service.limits import BodyLimit, HeadAsGet, RangeLimit
from birdsearch.search.service.metrics import CountRequests
from birdsearch.search.service.options import ServeOptions
from birdsearch.search.service.parameters import KnownParameters
from birdsearch.search.service.routes import (
    clusters,
    duplicates,
    health,
    jobs,
    photos,
    review,
    search,
    sightings,
)
from birdsearch.search.service.routes.annotations import router as annotations_router
from birdsearch.search.service.searching import Searcher
from birdsearch.search.service.sessions import Guesses, Sessions
from birdsearch.search.service.state import Service
from birdsearch.search.service.static_files import gallery
from birdsearch.version import __version__

__all__ = ["create_app"]

# Fewer than the catalog has connections for reading (15), so that none waits for another's.
_THREADS = 10

_DESCRIPTION = """Photos of a birdsearch catalog: find similar ones, name them, verify, group and tidy.

Everything is JSON but uploads (multipart) and pictures. Errors are `application/problem+json` (RFC 9457)."""

# In this order they are looked through, so what is asked most comes first.
_ROUTERS = (
    search.router,
    health.router,
    security.router,
    jobs.router,
    annotations_router,
    duplicates.router,
    clusters.router,
    sightings.router,
    review.router,
    photos.router,
)


def create_app(options: ServeOptions) -> FastAPI:
    """Make the app; the catalog is opened when it starts and closed when it stops.

    Args:
        options: What is served and how.

    Returns:
        The app. While it runs, `app.state.service` is its `Service`.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _THREADS
        service = await run_in_threadpool(Service, options)
        service.metrics.watch(service.store, service.jobs)
        app.state.service = service
        app.state.searcher = searcher = Searcher(service)
        try:
            yield
        finally:
            await run_in_threadpool(searcher.close)
            await run_in_threadpool(service.close)

    app = FastAPI(
        title="birdsearch",
        version=__version__,
        description=_DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        dependencies=[Depends(KnownParameters())],
    )
    app.state.options = options
    app.state.sessions, app.state.guesses = sessions, guesses = Sessions(), Guesses()
    problems.install(app, _known_paths)
    for router in _ROUTERS:
        app.include_router(router)
    app.router.routes.append(gallery())
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    # The first to be added is the innermost.
    app.add_middleware(problems.ErrorsAsProblems)
    app.add_middleware(RangeLimit)
    app.add_middleware(RequestLimit, at_once=options.max_requests)
    app.add_middleware(security.Guard, options=options, sessions=sessions, guesses=guesses)
    app.add_middleware(BodyLimit, max_bytes=options.max_upload_mb * 1_000_000)
    # Once more, for what fails outside of the app's own handlers.
    app.add_middleware(problems.ErrorsAsProblems)
    app.add_middleware(CountRequests, metrics=lambda scope: scope["app"].state.service.metrics)
    app.add_middleware(security.SafeHeaders)
    app.add_middleware(HeadAsGet)
    return app


def _known_paths(request: Request) -> Mapping[str, str] | None:
    service: Service = request.app.state.service
    return service.paths.known()
