"""Admission: a limit of the requests answered at once; those that wait only for their client take no slot."""

from __future__ import annotations

import asyncio
import re
from collections import Counter, OrderedDict

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birdsearch.search.service.problems import ProblemResponse
from birdsearch.search.service.sessions import client_of

__all__ = ["RequestLimit"]

# A monitor has to hear that the service is alive, most of all when it is busy.
_ALWAYS = frozenset({"/healthz", "/readyz", "/metrics"})
_STREAM = re.compile(r"/api/jobs/[0-9]+/events")
_THUMB = re.compile(r"/api/photos/[0-9]+/thumb")
_SESSION = "/api/session"
_WITH_BODY = frozenset({"POST", "PUT", "PATCH", "DELETE"})

# Streams of one client: a browser opens no more connections to one service.
_STREAMS_EACH = 6
# Who asks for a session need not have shown a token, so such requests have few slots of their own.
_SESSIONS_AT_ONCE = 8
# Thumbnails wait for each other, page after page of them; see `birdsearch.search.service.thumbs`.
_THUMBS_PER_SLOT = 4


class _Room:
    """Slots for requests of one kind."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._taken = 0

    def enter(self) -> bool:
        if self._taken >= self.slots:
            return False
        self._taken += 1
        return True

    def leave(self) -> None:
        self._taken -= 1


class _Slot:
    """A request's slot in a room; it is free again once the answer is complete, read or not."""

    def __init__(self, room: _Room, send: Send) -> None:
        self._room = room
        self._send = send
        self._is_taken = False

    @property
    def is_taken(self) -> bool:
        return self._is_taken

    def take(self) -> bool:
        self._is_taken = self._room.enter()
        return self._is_taken

    def give_back(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._room.leave()

    async def send(self, message: Message) -> None:
        # The last piece waits until the client has read what is before it, or sent the body that it announced.
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.give_back()
        await self._send(message)


class _Receiving:
    """Requests whose bodies are on their way; if there are too many, the one that takes longest is ended."""

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._clocks: OrderedDict[object, asyncio.Timeout] = OrderedDict()

    def enter(self, request: object, clock: asyncio.Timeout) -> None:
        if len(self._clocks) >= self._slots:
            _, oldest = self._clocks.popitem(last=False)
            oldest.reschedule(asyncio.get_running_loop().time())
        self._clocks[request] = clock

    def leave(self, request: object) -> None:
        self._clocks.pop(request, None)


class RequestLimit:
    """Answers 503 to what comes while as many requests as allowed are being answered.

    A request takes its slot when its body is there. Streams of events and thumbnails have slots of their own.

    Args:
        app: What answers.
        at_once: How many requests are answered at once.
    """

    def __init__(self, app: ASGIApp, at_once: int) -> None:
        self._app = app
        self._answering = _Room(at_once)
        self._thumbs = _Room(_THUMBS_PER_SLOT * at_once)
        self._streams = _Room(at_once)
        self._streams_of: Counter[str] = Counter()
        self._sessions = _Room(_SESSIONS_AT_ONCE)
        self._receiving = _Receiving(at_once)
        self._receiving_sessions = _Receiving(_SESSIONS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app if there is room."""
        if scope["type"] != "http" or scope["path"] in _ALWAYS:
            await self._app(scope, receive, send)
        elif _STREAM.fullmatch(scope["path"]):
            await self._stream(scope, receive, send)
        elif scope["method"] in _WITH_BODY and _has_body(scope):
            await self._with_body(scope, receive, send)
        else:
            room = self._thumbs if _THUMB.fullmatch(scope["path"]) else self._room_of(scope)
            slot = _Slot(room, send)
            if not slot.take():
                await _busy(room)(scope, receive, send)
                return
            try:
                await self._app(scope, receive, slot.send)
            finally:
                slot.give_back()

    def _room_of(self, scope: Scope) -> _Room:
        return self._sessions if scope["path"] == _SESSION else self._answering

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = client_of(scope, Headers(scope=scope))
        if self._streams_of[client] >= _STREAMS_EACH:
            detail = (
                f"{_STREAMS_EACH} streams of events go to you already, which is the limit; end one of them"
            )
            await ProblemResponse(503, detail, headers={"Retry-After": "5"})(scope, receive, send)
        elif not self._streams.enter():
            await _busy(self._streams)(scope, receive, send)
        else:
            self._streams_of[client] += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._streams.leave()
                self._streams_of[client] -= 1
                if not self._streams_of[client]:
                    del self._streams_of[client]

    async def _with_body(self, scope: Scope, receive: Receive, send: Send) -> None:
        receiving = self._receiving_sessions if scope["path"] == _SESSION else self._receiving
        room, request = self._room_of(scope), object()
        slot = _Slot(room, send)
        is_started = False

        async def received() -> Message:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body", False) and not is_started:
                receiving.leave(request)
                if not slot.is_taken and not slot.take():
                    raise HTTPException(503, _busy_detail(room), headers={"Retry-After": "1"})
            return message

        async def sent(message: Message) -> None:
            nonlocal is_started
            if not is_started:
                is_started = True
                # It is answered: what is left of its body is read by whoever sends the answer, and not for long.
                receiving.leave(request)
                if not clock.expired():
                    clock.reschedule(None)
            await slot.send(message)

        clock = asyncio.timeout(None)
        try:
            async with clock:
                receiving.enter(request, clock)
                await self._app(scope, received, sent)
        except TimeoutError:
            if is_started or not clock.expired():
                raise
            late = "the body did not come soon enough, and others wait; send it again"
            await ProblemResponse(408, late)(scope, receive, send)
        finally:
            receiving.leave(request)
            slot.give_back()


def _has_body(scope: Scope) -> bool:
    headers = Headers(scope=scope)
    return headers.get("content-length", "0") != "0" or "transfer-encoding" in headers


def _busy(room: _Room) -> ProblemResponse:
    return ProblemResponse(503, _busy_detail(room), headers={"Retry-After": "1"})


def _busy_detail(room: _Room) -> str:
    return f"{room.slots} requests are being answered, which is the limit; try again"
