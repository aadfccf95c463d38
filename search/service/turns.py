"""Turns: work for few requests at a time, in the order in which they came, if their clients still wait."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from starlette.requests import Request

__all__ = ["Turns"]

# Between two looks whether a client that waits is still there, in seconds.
_LOOK_S = 0.1


class Turns:
    """A queue of requests.

    Args:
        at_once: How many have their turn at a time.
    """

    def __init__(self, at_once: int) -> None:
        self._free = asyncio.Semaphore(at_once)

    @contextlib.asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bool]:
        """Wait for the turn of a request, which ends with the block; False if its client has gone meanwhile."""
        waiting = asyncio.ensure_future(self._free.acquire())
        try:
            is_there = not await request.is_disconnected()
            while is_there and not (await asyncio.wait({waiting}, timeout=_LOOK_S))[0]:
                is_there = not await request.is_disconnected()
            yield is_there
        finally:
            if not waiting.cancel():
                self._free.release()
