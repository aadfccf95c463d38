"""How much one request, and all of them together, may take."""

from __future__ import annotations

import asyncio
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birdsearch.search.service.problems import ProblemResponse

__all__ = ["BodyLimit", "HeadAsGet", "RangeLimit", "RequestLimit"]

# A body that stands still for so long is given up, in seconds.
_BODY_IDLE_S = 30.0
# After an early answer the rest of a body is read and dropped for so long and so far, since closing a connection
# that still receives would throw the answer away before the client has read it.
_DRAIN_S = 2.0
_DRAIN_BYTES = 64 << 20

# Ranges of one request; more are answered with the whole file, as RFC 9110 (14.2) allows.
_MAX_RANGES = 4
_MAX_RANGE_LENGTH = 128


class BodyLimit:
    """Ends a request whose body is too large or stands still, whether it says its length or not.

    What is answered before the body has arrived whole closes the connection, so it is outside of all that refuses.

    Args:
        app: What reads the bodies.
        max_bytes: Largest body.
        idle_s: Seconds that a body may stand still.
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
        body = _Body(receive, send, self._max_bytes, self._idle_s)
        body.is_whole = length == "0" and "transfer-encoding" not in headers
        # Python's int takes more than digits; what is no number, the connection has refused before.
        too_large = length.isdecimal() and int(length) > self._max_bytes
        app = ProblemResponse(413, body.too_large) if too_large else self._app
        await app(scope, body.receive, body.send)


class _Body:
    """The body of one request on its way in, and the answer on its way out."""

    def __init__(self, receive: Receive, send: Send, max_bytes: int, idle_s: float) -> None:
        self._receive = receive
        self._send = send
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        self._received = 0
        self._is_late = False
        self.is_whole = False
        self.too_large = (
            f"the body is larger than {max_bytes / 1e6:g} MB, which is the limit (--max-upload-mb)"
        )

    async def receive(self) -> Message:
        if self.is_whole:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), self._idle_s)
        except TimeoutError:
            raise HTTPException(408, f"the body stood still for {self._idle_s:g} s") from None
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
            message = await asyncio.wait_for(receive(), left)
        except TimeoutError:
            return
        dropped += len(message.get("body", b""))
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


class RequestLimit:
    """Answers 503 to what comes while as many requests as allowed are being answered.

    Args:
        app: What answers.
        at_once: How many.
    """

    # Whoever watches the service has to hear that it is alive, most of all when it is busy.
    _ALWAYS = frozenset({"/healthz", "/readyz", "/metrics"})

    def __init__(self, app: ASGIApp, at_once: int) -> None:
        self._app = app
        self._at_once = at_once
        self._running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app if there is room."""
        if scope["type"] != "http" or scope["path"] in self._ALWAYS:
            await self._app(scope, receive, send)
            return
        if self._running >= self._at_once:
            busy = ProblemResponse(
                503,
                f"{self._at_once} requests are being answered, which is the limit; try again",
                headers={"Retry-After": "1"},
            )
            await busy(scope, receive, send)
            return
        self._running += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._running -= 1


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
