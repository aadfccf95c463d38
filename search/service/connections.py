"""Connections of the service: cut when headers do not end, or answers are not read."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from birdsearch.search.service.problems import ProblemResponse
from birdsearch.search.service.security import SAFE_HEADERS

__all__ = ["ConnectionLimits", "protocol"]


# Characters of what is said of bytes that are no request.
_LONGEST_REASON = 200


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Limits of what one connection, and all of them together, may take.

    Attributes:
        headers_s: Seconds for the headers of a request, from the connection or their first byte on.
        idle_s: Seconds that a connection is kept between requests.
        unread_s: Seconds that an answer may wait to be read on.
        header_bytes: Size of a request line with its headers.
        header_lines: How many headers a request may have.
        ahead_bytes: What a client may send ahead, of requests that wait for the answer to an earlier one.
        at_once: Open connections; if there are more, the one that has been waited for longest is closed.
    """

    headers_s: float = 10.0
    idle_s: int = 30
    unread_s: float = 60.0
    header_bytes: int = 32 << 10
    header_lines: int = 100
    ahead_bytes: int = 512 << 10
    at_once: int = 256


def protocol(limits: ConnectionLimits) -> Callable[..., asyncio.Protocol]:
    """Return what makes uvicorn's connections, with these limits."""
    return functools.partial(_Connection, limits)


class _Bounded(h11.Connection):
    """Refuses headers that are too large or too many, also where they arrive at once."""

    def __init__(self, limits: ConnectionLimits) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=limits.header_bytes)
        self._limits = limits
        self.status_of_error, self.reason = 400, ""

    def next_event(self) -> Any:
        try:
            event = super().next_event()
            if isinstance(event, h11.Request):
                self._check(event)
        except h11.RemoteProtocolError as error:
            self.status_of_error, self.reason = error.error_status_hint, str(error)[:_LONGEST_REASON]
            raise
        return event

    def _check(self, request: h11.Request) -> None:
        size = len(request.method) + len(request.target)
        size += sum(len(name) + len(value) + 4 for name, value in request.headers)
        if size > self._limits.header_bytes or len(request.headers) > self._limits.header_lines:
            raise h11.RemoteProtocolError("headers too large", error_status_hint=431)
        names = {name for name, _ in request.headers}
        # A proxy in front may believe the one and h11 the other: where the next request begins is anybody's guess.
        if {b"content-length", b"transfer-encoding"} <= names:
            raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")


class _Connection(H11Protocol):
    # NOTE: uvicorn bounds the size of headers, but waits for their end without end.

    def __init__(self, limits: ConnectionLimits, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._limits = limits
        self.conn = _Bounded(limits)
        self.heard = self.loop.time()
        self._headers_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.heard = self.loop.time()
        if len(self.connections) > self._limits.at_once and not self._end_quietest():
            self._refuse(503, "too many connections are open", {"Retry-After": "1"})
            return
        self._watch_headers()

    def _end_quietest(self) -> bool:
        """Close the connection whose client was idle longest while it was its turn; False if there is none."""
        waiting = [
            other
            for other in self.connections
            if isinstance(other, _Connection) and other is not self and other.waits_for_client
        ]
        if not waiting:
            return False
        min(waiting, key=lambda other: other.heard).transport.abort()
        return True

    @property
    def waits_for_client(self) -> bool:
        is_unread = self._unread_timer is not None
        is_waiting = is_unread or self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        return is_waiting and not self.transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_timer = _cancelled(self._headers_timer)
        self._unread_timer = _cancelled(self._unread_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self.heard = self.loop.time()
        super().data_received(data)
        # NOTE: uvicorn stops reading while it answers, but reads on when the app looks whether its client is there.
        if len(self.conn.trailing_data[0]) > self._limits.ahead_bytes:
            self.transport.abort()
        self._watch_headers()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch_headers()

    def _watch_headers(self) -> None:
        """Start the clock when headers begin, or a first request is awaited; stop it when they are there."""
        has_begun = self.cycle is None or bool(self.conn.trailing_data[0])
        if self.conn.their_state is not h11.IDLE or not has_begun or self.transport.is_closing():
            self._headers_timer = _cancelled(self._headers_timer)
        elif self._headers_timer is None:
            self._headers_timer = self.loop.call_later(self._limits.headers_s, self._headers_late)

    def _headers_late(self) -> None:
        self._headers_timer = None
        if not self.transport.is_closing():
            self._refuse(408, f"the headers took longer than {self._limits.headers_s:g} s")

    def send_400_response(self, msg: str) -> None:
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            # An answer is under way: nothing can be said any more.
            self.transport.abort()
            return
        reason = self.conn.reason if isinstance(self.conn, _Bounded) else ""
        if isinstance(self.conn, _Bounded) and self.conn.status_of_error == 431:
            size, lines = self._limits.header_bytes >> 10, self._limits.header_lines
            self._refuse(431, f"the headers are larger than {size} KB, or more than {lines}")
            return
        self._refuse(400, f"this is not an HTTP request: {reason or msg}")

    def _refuse(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        """Answer without the app, and close."""
        every = {**SAFE_HEADERS, "Connection": "close", "Cache-Control": "no-store"}
        answer = ProblemResponse(status, detail, headers={**every, **(headers or {})})
        head = h11.Response(
            status_code=status, headers=answer.raw_headers, reason=HTTPStatus(status).phrase.encode()
        )
        for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._unread_timer = _cancelled(self._unread_timer)
        self._unread_timer = self.loop.call_later(self._limits.unread_s, self.transport.abort)

    def resume_writing(self) -> None:
        self.heard = self.loop.time()
        self._unread_timer = _cancelled(self._unread_timer)
        super().resume_writing()


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    """Cancel a timer; return None, as there is none afterwards."""
    if timer is not None:
        timer.cancel()
    return None
