"""Sessions of browsers, and how often a client may guess a token."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from collections import Counter, OrderedDict
from collections.abc import Iterator

from starlette.datastructures import Headers
from starlette.types import Scope

__all__ = ["COOKIE", "Guesses", "Sessions", "address_of", "client_of", "cookie_of"]

COOKIE = "birdsearch_session"

# Browsers that are remembered; beyond that the one that was away longest has to log in again.
_MOST_SESSIONS = 1000
# Guesses of one client that are being answered.
_GUESSES_AT_ONCE = 5
_LONGEST_COOKIE = 200


class Sessions:
    """The sessions that were started and not ended, for as long as the service runs."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, None] = OrderedDict()

    def start(self) -> str:
        """Start a session; returns what its cookie holds."""
        value = secrets.token_urlsafe(32)
        self._known[_digest(value)] = None
        if len(self._known) > _MOST_SESSIONS:
            self._known.popitem(last=False)
        return value

    def knows(self, value: str | None) -> bool:
        """Return whether a cookie's value is of a session."""
        if value is None:
            return False
        digest = _digest(value)
        if digest not in self._known:
            return False
        self._known.move_to_end(digest)
        return True

    def end(self, value: str | None) -> None:
        """End the session of a cookie's value, if it is of one."""
        if value is not None:
            self._known.pop(_digest(value), None)


class Guesses:
    """How many tokens a client may try at the same time; a wrong one is answered late, and so the next is."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()

    @contextlib.contextmanager
    def of(self, address: str) -> Iterator[bool]:
        """Yield whether the client at an address may try once more now; the try counts until the block ends."""
        if self._running[address] >= _GUESSES_AT_ONCE:
            yield False
            return
        self._running[address] += 1
        try:
            yield True
        finally:
            self._running[address] -= 1
            if not self._running[address]:
                del self._running[address]


def cookie_of(headers: Headers) -> str | None:
    """Return the session's cookie among those that a request sends; None if there is none."""
    # NOTE: `http.cookies` takes time that grows with the square of the header's length (CVE-2024-7592).
    for line in headers.getlist("cookie"):
        for part in line.split(";"):
            name, separator, value = part.partition("=")
            if separator and name.strip() == COOKIE:
                value = value.strip()
                return value if len(value) <= _LONGEST_COOKIE else None
    return None


def client_of(scope: Scope, headers: Headers) -> str:
    """Return a name of a client, for counting only: by its session or token, else by its address."""
    shown = cookie_of(headers) or headers.get("authorization")
    return address_of(scope) if shown is None else _digest(shown).hex()


def address_of(scope: Scope) -> str:
    """Return the address that a request comes from."""
    client = scope.get("client")
    return "" if client is None else str(client[0])


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "surrogateescape")).digest()
