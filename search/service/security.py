"""Who may ask: host names, tokens and sessions, origins; and the headers that keep browsers safe."""

from __future__ import annotations

import hashlib
import hmac
from http.cookies import CookieError, SimpleCookie
from urllib.parse import urlsplit

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birdsearch.search.service.options import ServeOptions, is_loopback
from birdsearch.search.service.problems import ProblemResponse, responses

__all__ = ["COOKIE", "SAFE_HEADERS", "Guard", "SafeHeaders", "router"]

COOKIE = "birdsearch_session"
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


def session_of(token: str) -> str:
    """What the session cookie holds for a token: made from it, and of no use to find it."""
    return hmac.new(token.encode(), b"birdsearch session 1", hashlib.sha256).hexdigest()


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
    """

    def __init__(self, app: ASGIApp, options: ServeOptions) -> None:
        self._app = app
        self._token = options.token
        self._hosts = {
            host.lower().strip("[]").rstrip(".") for host in (options.host, *options.allowed_hosts)
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app, or refuse."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        await (self._app if refusal is None else refusal)(scope, receive, send)

    def _refusal(self, scope: Scope) -> ProblemResponse | None:
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
        if self._is_known(headers, self._token):
            return None
        return ProblemResponse(
            401, "a token is needed", headers={"WWW-Authenticate": 'Bearer realm="birdsearch"'}
        )

    @staticmethod
    def _is_known(headers: Headers, token: str) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and _same(given.strip(), token):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, session_of(token))


def _host_name(host: str) -> str | None:
    """The name in a Host header, without its port; None if it is not a host."""
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
    # Only the names and ports are compared: a proxy in front may speak TLS.
    return origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower()


class SessionRequest(BaseModel):
    """What a browser shows to get a session."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"examples": [{"token": "the token"}]}
    )

    token: str = Field(max_length=4096)


router = APIRouter(prefix="/api", tags=["session"])


@router.post("/session", status_code=204, responses=responses(422))
def start_session(request: Request, body: SessionRequest) -> Response:
    """Start a session: the token once, a cookie from then on."""
    token: str | None = request.app.state.options.token
    if token is None:
        return Response(status_code=204)
    if not _same(body.token, token):
        return ProblemResponse(
            401, "this is not the token", headers={"WWW-Authenticate": 'Bearer realm="birdsearch"'}
        )
    response = Response(status_code=204)
    response.set_cookie(
        COOKIE,
        session_of(token),
        path="/",
        httponly=True,
        samesite="strict",
        # A proxy in front says that it speaks TLS; who says so falsely only makes the cookie stricter.
        secure="https" in (request.url.scheme, request.headers.get("x-forwarded-proto")),
    )
    return response


@router.delete("/session", status_code=204, responses=responses())
def end_session() -> Response:
    """End the browser's session."""
    response = Response(status_code=204)
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return response
