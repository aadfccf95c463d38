"""Errors as answers of the service: `application/problem+json` (RFC 9457), without secrets."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birdsearch.errors import (
    BirdsearchError,
    CatalogError,
    CatalogLockedError,
    CatalogReadOnlyError,
    InvalidInputError,
    MissingFilesError,
    PhotoError,
    StalledError,
    WeightsError,
)
from birdsearch.search.problem import Fault, Problem

__all__ = [
    "MEDIA_TYPE",
    "ErrorsAsProblems",
    "ProblemResponse",
    "as_problem",
    "install",
    "responses",
    "without_paths",
]

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"

# How long a client is asked to wait while another process writes to the catalog, in seconds.
_RETRY_LOCKED = 5

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")

_PATH = re.compile(r"(?<![\w.~/-])/(?:[^\s/:;,'\"()]+/)*[^\s/:;,'\"()]+")


class ProblemResponse(Response):
    """A problem as a response.

    Args:
        status: HTTP status.
        detail: One sentence for a person.
        errors: The values that were not accepted, if that is the problem.
        headers: More headers.
        error: The error behind it, which clients in Python raise again.
    """

    media_type = MEDIA_TYPE

    def __init__(
        self,
        status: int,
        detail: str,
        errors: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        error: BirdsearchError | None = None,
    ) -> None:
        photo = error if isinstance(error, PhotoError) else None
        problem = Problem(
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            errors=tuple(errors) or None,
            error=None if error is None else type(error).__name__,
            stage=None if photo is None else photo.stage,
            code=None if photo is None else photo.code,
        )
        body = json.dumps(problem.to_dict(), ensure_ascii=False).encode("utf-8", "backslashreplace")
        super().__init__(body, status, headers)


_DESCRIPTIONS = {
    202: "Started; the job says how it goes.",
    400: "The request cannot be understood, or names a host that this service is not.",
    401: "A token is needed.",
    403: "Not allowed here.",
    404: "There is no such thing.",
    406: "Not available in what the client accepts.",
    408: "The body did not come in time.",
    409: "Another process writes to the catalog, or the state does not allow it now.",
    413: "The body is larger than the service takes.",
    415: "The body is of a type that the service does not take.",
    416: "The range is outside the file.",
    422: "A value was not accepted.",
    429: "Too many wrong tokens came from this address.",
    431: "The headers are too large.",
    500: "The service failed; the reason is in its log.",
    503: "Too many requests at once, or the catalog or its network cannot be used now.",
}


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses=` of a route: those statuses and the ones that any route of the API can give."""
    every = sorted({*statuses, 400, 401, 403, 408, 413, 422, 429, 431, 500, 503})
    return {
        status: {
            "description": _DESCRIPTIONS[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
        for status in every
    }


def without_paths(text: str, known: Mapping[str, str] | None = None) -> str:
    """Return a message with no absolute path in it: of each, only what may be shown.

    Args:
        text: The message.
        known: What is shown for folders that are known, by absolute path. Any other path becomes its last part.

    Returns:
        The message to show.
    """
    for path, shown in sorted((known or {}).items(), key=lambda item: len(item[0]), reverse=True):
        if len(path) > 1:
            text = re.sub(rf"{re.escape(path)}(?![\w.-])", lambda _, shown=shown: shown, text)  # type: ignore[misc]
    return _PATH.sub(lambda found: found[0].rpartition("/")[2], text)


def as_problem(error: BirdsearchError, known: Mapping[str, str] | None = None) -> ProblemResponse:
    """Return an error of birdsearch as a problem.

    Args:
        error: The error.
        known: As `without_paths`; None shows paths as they are.

    Returns:
        The response.
    """
    detail = str(error) if known is None else without_paths(str(error), known)
    if isinstance(error, CatalogLockedError):
        return ProblemResponse(409, detail, headers={"Retry-After": str(_RETRY_LOCKED)}, error=error)
    if isinstance(error, InvalidInputError | PhotoError):
        return ProblemResponse(422, detail, error=error)
    if isinstance(error, CatalogReadOnlyError):
        return ProblemResponse(403, detail, error=error)
    if isinstance(error, MissingFilesError):
        return ProblemResponse(409, detail, error=error)
    if isinstance(error, CatalogError | StalledError | WeightsError):
        return ProblemResponse(503, detail, error=error)
    log.error("an error that has no status of its own", exc_info=error)
    return ProblemResponse(500, "internal error")


def install(app: FastAPI, known: Callable[[Request], Mapping[str, str] | None]) -> None:
    """Make an app answer every error with a problem.

    Args:
        app: The app.
        known: The folders of a request's service as `without_paths` takes them; None where paths are shown.
    """

    def on_birdsearch_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, BirdsearchError)
        return as_problem(error, known(request))

    def on_http_exception(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = ", ".join(_allowed(app, request.scope)) or headers.get("Allow", "GET, HEAD")
        if error.status_code in (204, 304):
            return Response(status_code=error.status_code, headers=headers)
        return ProblemResponse(error.status_code, str(error.detail), headers=headers)

    def on_invalid_request(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        errors = [Fault(".".join(str(part) for part in item["loc"]), item["msg"]) for item in error.errors()]
        first = f"{errors[0].where}: {errors[0].message}" if errors else "a value was not accepted"
        return ProblemResponse(422, first, errors)

    app.add_exception_handler(BirdsearchError, on_birdsearch_error)
    app.add_exception_handler(HTTPException, on_http_exception)
    app.add_exception_handler(RequestValidationError, on_invalid_request)


def _allowed(app: FastAPI, scope: Scope) -> list[str]:
    """Return the methods that the path of a request takes, over all the routes that have this path."""
    methods = {
        method
        for method in _METHODS
        for route in app.router.routes
        if not isinstance(route, Mount) and route.matches({**scope, "method": method})[0] is Match.FULL
    }
    return sorted(methods | {"HEAD"} if "GET" in methods else methods)


class ErrorsAsProblems:
    """Answers with problems where the handlers of the app do not: unforeseen errors, and errors in plain text.

    It is inside the other middlewares, so that these responses pass through them as any other.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(scope, receive, send)
        try:
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            # The client has gone.
            return
        except Exception as error:
            if answer.is_started:
                # Too late for a status: the connection is closed, by which the client knows that it has not all.
                raise
            log.exception("%s %s failed", scope["method"], scope["path"], exc_info=error)
            await ProblemResponse(500, "internal error")(scope, receive, send)


class _Answer:
    """A response on its way out. One that is an error in plain text (of a range, say) leaves as a problem."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._request = (scope, receive, send)
        self._plain: Message | None = None
        self._text = b""
        self.is_started = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            kind = Headers(raw=message["headers"]).get("content-type", "")
            if message["status"] >= 400 and not kind.startswith(MEDIA_TYPE):
                self._plain = message
                return
        elif self._plain is not None:
            self._text += message.get("body", b"")
            if not message.get("more_body", False):
                await self._as_problem(self._plain)
            return
        self.is_started = True
        await self._request[2](message)

    async def _as_problem(self, start: Message) -> None:
        status, headers = start["status"], Headers(raw=start["headers"])
        kept = {name: headers[name] for name in ("content-range", "allow", "retry-after") if name in headers}
        detail = self._text.decode("utf-8", "replace") or HTTPStatus(status).phrase
        self.is_started = True
        await ProblemResponse(status, detail, headers=kept)(*self._request)
