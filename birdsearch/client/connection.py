"""HTTP to one service with the standard library: connections that are kept, timeouts, and retries of reads."""

from __future__ import annotations

import http.client
import json
import select
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from birdsearch.errors import InvalidInputError, ServiceError

__all__ = ["Answer", "Connections"]

# However long the service asks to wait, no single wait is longer.
_LONGEST_WAIT_S = 30.0
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service sent back.

    Attributes:
        status: HTTP status.
        headers: Header fields, names in lower case.
        content: The body.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def media_type(self) -> str:
        """The content type without its parameters, in lower case."""
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()

    def json(self) -> Any:
        """The body as JSON.

        Raises:
            ServiceError: It is something else, such as the page of a proxy.
        """
        try:
            return json.loads(self.content)
        except ValueError:
            raise ServiceError(
                f"the answer (status {self.status}, {self.media_type or 'no content type'}) is not JSON; "
                "is this the address of `birdsearch serve`?",
                status=self.status,
            ) from None


class Connections:
    """Connections to one service. Several threads may ask at once: each request has a connection to itself.

    A connection is kept when its answer was read, and used again.
    """

    def __init__(self, url: str, token: str | None, *, timeout: float, tries: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidInputError(
                f"url {url!r} must be like http://127.0.0.1:8000 or https://birds.example.org"
            )
        if parts.username or parts.password or parts.query or parts.fragment:
            raise InvalidInputError("url must have no user, query or fragment; pass the token as token=")
        if not timeout > 0:
            raise InvalidInputError(f"timeout must be more than 0 seconds, got {timeout}")
        if tries < 1:
            raise InvalidInputError(f"tries must be at least 1, got {tries}")
        try:
            port = parts.port
        except ValueError as error:
            raise InvalidInputError(f"url {url!r}: {error}") from None
        if token is not None and not (
            token.isascii() and token.isprintable() and token.strip() == token != ""
        ):
            raise InvalidInputError("token must be printable ASCII without spaces around it")
        self.url = url.rstrip("/")
        self._https = parts.scheme == "https"
        self._host, self._port = parts.hostname, port
        self._prefix = parts.path.rstrip("/")
        self._timeout, self._tries = timeout, tries
        self._headers = {"Accept": "application/json"}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._idle: list[http.client.HTTPConnection] = []
        self._lock = threading.Lock()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        is_read: bool | None = None,
    ) -> Answer:
        """Ask once, or for reads again where the service was busy or the connection broke.

        Args:
            method: HTTP method.
            path: Path below the service's address, such as `/api/photos`.
            query: Query parameters; lists are repeated, None is left out.
            body: Body.
            headers: More header fields.
            is_read: True if asking twice is harmless; by default true of GET.

        Returns:
            The answer, of whatever status; a 503 with Retry-After only once the tries are used up.

        Raises:
            ServiceError: The service cannot be reached or broke off.
        """
        target = self._prefix + path
        pairs = {name: value for name, value in (query or {}).items() if value is not None}
        if pairs:
            target += "?" + urlencode(pairs, doseq=True)
        again = method == "GET" if is_read is None else is_read
        for left in reversed(range(self._tries if again else 1)):
            try:
                answer = self._once(method, target, body, {**self._headers, **(headers or {})})
            except (OSError, http.client.HTTPException) as error:
                if left and not isinstance(error, TimeoutError | ConnectionRefusedError):
                    continue
                reason = str(error) or type(error).__name__
                raise ServiceError(f"{self.url}: {method} {path}: {reason}") from error
            wait = _wait_of(answer)
            if wait is None or not left:
                return answer
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def _once(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        connection = self._take()
        try:
            connection.request(method, target, body, dict(headers))
            response = connection.getresponse()
            content = response.read()
        except BaseException:
            connection.close()
            raise
        fields = {name.lower(): value for name, value in response.getheaders()}
        if response.will_close:
            connection.close()
        else:
            self._give_back(connection)
        return Answer(response.status, fields, content)

    def _take(self) -> http.client.HTTPConnection:
        """A kept connection that the service has not closed, or a new one."""
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                kind = http.client.HTTPSConnection if self._https else http.client.HTTPConnection
                return kind(self._host, self._port, timeout=self._timeout)
            if connection.sock is not None and not _is_readable(connection.sock):
                return connection
            connection.close()

    def _give_back(self, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            if len(self._idle) < _KEPT:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        """Close what is kept; asking again opens anew."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()


def _is_readable(sock: socket.socket) -> bool:
    """True if something came in. Nothing is due on a kept connection, so that would be its end."""
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(0))


def _wait_of(answer: Answer) -> float | None:
    """Seconds to wait before asking again, or None if the answer is final."""
    if answer.status != 503:
        return None
    try:
        seconds = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)
