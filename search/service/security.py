"""Security: host names, tokens, sessions and origins of requests, and headers that keep browsers safe."""

from __future__ import annotations

import asyncio
import hmac
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birdsearch.search.service.options import ServeOptions, is_loopback
from birdsearch.search.service.problems import ProblemResponse, responses
from birdsearch.search.service.sessions import COOKIE, Guesses, Sessions, address_of, cookie_of

__all__ = ["SAFE_HEADERS", "Guard", "SafeHeaders", "router"]

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# What may be asked without a token: it holds nothing of the catalog.
_OPEN = frozenset({"/healthz", "/readyz", "/api/session"})

_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "manifest-src 'self'",
    )
)
SAFE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


# How late a wrong token is answered, in seconds.
_WRONG_S = 1.0
_BEARER = {"WWW-Authenticate": 'Bearer realm="birdsearch"'}


def _same(given: str, wanted: str) -> bool:
    """Compare in a time that does not depend on where two texts differ."""
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())


class SafeHeaders:
    """Puts the security headers on every response, and keeps answers of the API out of caches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers[name] = value
                if not _is_static(scope["path"]):
                    headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, safe)


def _is_static(path: str) -> bool:
    return not path.startswith("/api/") and path not in ("/healthz", "/readyz", "/metrics")


class Guard:
    """Lets a request through if it names this service, comes from no foreign page, and shows the token.

    Args:
        app: What is guarded.
        options: What the service was started with.
        sessions: Those of browsers that have shown the token.
        guesses: Which clients may try a token now.
    """

    def __init__(self, app: ASGIApp, options: ServeOptions, sessions: Sessions, guesses: Guesses) -> None:
        self._app = app
        self._token = options.token
        self._sessions = sessions
        self._guesses = guesses
        self._hosts = {
            host.lower().strip("[]").rstrip(".") for host in (options.host, *options.allowed_hosts)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = await self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    async def _refusal(self, scope: Scope) -> ProblemResponse | None:
        headers = Headers(scope=scope)
        host = _host_name(headers.get("host", ""))
        # Else a page of another site could reach this service by a name that resolves to it (DNS rebinding).
        if host is None or not (is_loopback(host) or host in self._hosts):
            return ProblemResponse(
                400, "the Host header names another server; start with --allow-host NAME to be called so"
            )
        if scope["method"] not in _SAFE_METHODS and _is_foreign(headers):
            return ProblemResponse(403, "a page of another site may not change anything here")
        path = scope["path"]
        if self._token is None or path in _OPEN or _is_static(path):
            return None
        if self._sessions.knows(cookie_of(headers)):
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return ProblemResponse(401, "a token is needed", headers=_BEARER)
        return await refuse_token(self._guesses, scope, given.strip(), self._token)


async def refuse_token(guesses: Guesses, scope: Scope, given: str, token: str) -> ProblemResponse | None:
    """Compare a token that a client shows; a wrong one is answered late.

    Args:
        guesses: Which clients may try a token now.
        scope: The request.
        given: What is shown.
        token: What is wanted.

    Returns:
        What to answer, or None for the right token.
    """
    with guesses.of(address_of(scope)) as may_try:
        if not may_try:
            detail = "too many wrong tokens come from your address; try again"
            return ProblemResponse(429, detail, headers={"Retry-After": "1"})
        if _same(given, token):
            return None
        await asyncio.sleep(_WRONG_S)
        return ProblemResponse(401, "this is not the token", headers=_BEARER)


def _host_name(host: str) -> str | None:
    """Return the name in a Host header, without its port; None if it is not a host."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or parts.username is not None or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")


def _is_foreign(headers: Headers) -> bool:
    """Say whether a browser sent the request for a page that is not of this service."""
    if headers.get("sec-fetch-site", "none") in ("cross-site", "same-site"):
        return True
    origin = headers.get("origin")
    if origin is None:
        return False
    # Only the names and ports are compared: a proxy in front may speak TLS.
    try:
        return urlsplit(origin).netloc.lower() != headers.get("host", "").lower()
    except ValueError:
        return True


class SessionRequest(BaseModel):
    """What a browser shows to get a session."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"token": "the token"}]}
    )

    token: str = Field(max_length=4096)


router = APIRouter(prefix="/api", tags=["session"])


@router.post("/session", status_code=204, responses=responses(413))
async def start_session(request: Request, body: SessionRequest) -> Response:
    """Start a session: the token once, a cookie from then on."""
    token: str | None = request.app.state.options.token
    if token is None:
        return Response(status_code=204)
    refusal = await refuse_token(request.app.state.guesses, request.scope, body.token, token)
    if refusal is not None:
        return refusal
    response = Response(status_code=204)
    sessions: Sessions = request.app.state.sessions
    response.set_cookie(
        COOKIE,
        sessions.start(),
        path="/",
        httponly=True,
        samesite="strict",
        # A proxy in front says that it speaks TLS; who says so falsely only makes the cookie stricter.
        secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
    )
    return response


@router.delete("/session", status_code=204, responses=responses())
async def end_session(request: Request) -> Response:
    """End the browser's session; its cookie is worth nothing from then on."""
    sessions: Sessions = request.app.state.sessions
    sessions.end(cookie_of(request.headers))
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response
