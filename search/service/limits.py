"""Limits of what one request, and all of them together, may take."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birdsearch.search.service.problems import ProblemResponse

__all__ = ["BodyLimit", "HeadAsGet", "RangeLimit"]

# A body that stands still for so long is given up, in seconds; so is one that takes longer than that and than it
# takes at so many bytes a second.
_BODY_IDLE_S, _SLOWEST_BYTES_PER_S = 30.0, 10_000
# What takes photos, and what takes lists of thousands of photos; anything else is a few numbers and names.
_UPLOADS = frozenset({"/api/search", "/api/label"})
_LONG_JSON = ("/api/search", "/api/label", "/api/annotations", "/api/duplicates", "/api/clusters")
_SESSION = "/api/session"
# Anybody may ask for a session, and JSON is read while nothing else is.
_SESSION_BYTES, _JSON_BYTES, _LONG_JSON_BYTES = 8_000, 64_000, 1_000_000
_MOST_DIGITS = 18
# After an early answer the rest of a body is read and dropped for so long and so far, since closing a connection
# that still receives would throw the answer away before the client has read it.
_DRAIN_S = 2.0
_DRAIN_BYTES = 64 << 20

# Ranges of one request; more are answered with the whole file, as RFC 9110 (14.2) allows.
_MAX_RANGES = 4
_MAX_RANGE_LENGTH = 128


class BodyLimit:
    """Ends a request whose body is too large, stands still or comes too slowly.

    What is answered before the body has arrived whole closes the connection, so it is outside of all that refuses.

    Args:
        app: What reads the bodies.
        max_bytes: Largest body of an upload; others may have what they can need.
        idle_s: Seconds that a body may stand still, and that any may take.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, idle_s: float = _BODY_IDLE_S) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._idle_s = idle_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app with a body that is counted as it arrives."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "0")
        most, is_upload = self._most_of(scope["path"], headers.get("content-type", ""))
        body = _Body(receive, send, most, self._idle_s, "" if not is_upload else " (--max-upload-mb)")
        body.is_whole = length == "0" and "transfer-encoding" not in headers
        # Python's int takes more than digits; what is no number, the connection has refused before.
        too_large = length.isdecimal() and (len(length) > _MOST_DIGITS or int(length) > most)
        app = ProblemResponse(413, body.too_large) if too_large else self._app
        await app(scope, body.receive, body.send)

    def _most_of(self, path: str, content_type: str) -> tuple[int, bool]:
        """Return the largest body of a request, and whether that is what `--max-upload-mb` says."""
        if content_type.lower().startswith("multipart/") and path in _UPLOADS:
            return self._max_bytes, True
        if path == _SESSION:
            return min(_SESSION_BYTES, self._max_bytes), False
        most = _LONG_JSON_BYTES if path.startswith(_LONG_JSON) else _JSON_BYTES
        return min(most, self._max_bytes), False


class _Body:
    """The body of one request on its way in, and the answer on its way out."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int, idle_s: float, option: str) -> None:
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._begun = time.monotonic()
        self._received = 0
        self._is_late = False
        self.is_whole = False
        size = f"{max_bytes / 1e6:g} MB" if max_bytes >= 1_000_000 else f"{max_bytes / 1e3:g} KB"
        self.too_large = f"the body is larger than {size}, which is the limit here{option}"

    async def receive(self) -> Message:
        if self.is_whole:
            return await self._receive()
        left = self._begun + self._idle_s + self._received / _SLOWEST_BYTES_PER_S - time.monotonic()
        try:
            # NOTE: `wait_for` of Python 3.11 swallows a cancellation that comes with the message.
            async with asyncio.timeout(min(self._idle_s, max(0.0, left))):
                message = await self._receive()
        except TimeoutError:
            late = f"stood still for {self._idle_s:g} s" if left >= self._idle_s else "came too slowly"
            raise HTTPException(408, f"the body {late}") from None
        self._received += len(message.get("body", b""))
        if self._received > self._max_bytes:
            raise HTTPException(413, self.too_large)
        self.is_whole = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start" and not self.is_whole:
            # The rest of the body is not wanted, so the connection cannot be used again.
            self._is_late = True
            message["headers"] = [*message.get("headers", []), (b"connection", b"close")]
        if self._is_late and message["type"] == "http.response.body" and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await _drain(self._receive)
            message = {"type": "http.response.body", "body": b"", "more_body": False}
        await self._send(message)


async def _drain(receive: Receive) -> None:
    """Read and drop a body, but not for long."""
    end, dropped = time.monotonic() + _DRAIN_S, 0
    while dropped < _DRAIN_BYTES and (left := end - time.monotonic()) > 0:
        try:
            async with asyncio.timeout(left):
                message = await receive()
        except TimeoutError:
            return
        dropped += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


class RangeLimit:
    """Takes a Range header of many ranges away, so that the whole file is sent once instead."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app."""
        if scope["type"] == "http":
            ranges = [value for name, value in scope["headers"] if name == b"range"]
            size = sum(map(len, ranges))
            if len(ranges) > 1 or size > _MAX_RANGE_LENGTH or b"".join(ranges).count(b",") >= _MAX_RANGES:
                scope["headers"] = [
                    pair for pair in scope["headers"] if pair[0] not in (b"range", b"if-range")
                ]
        await self._app(scope, receive, send)


class HeadAsGet:
    """Answers HEAD as GET without the body; an answer that is a stream ends after its headers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def headers_only(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app({**scope, "method": "GET"}, receive, headers_only)
