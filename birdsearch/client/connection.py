"""HTTP to one service: connections that are kept, timeouts, and retries of reads."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from birdsearch.client.requests import Body
from birdsearch.errors import BirdsearchError, InvalidInputError, ServiceError
from birdsearch.version import __version__

if TYPE_CHECKING:
    import httpx

__all__ = ["Answer", "Connections"]

# However long the service asks to wait, no single wait is longer.
_LONGEST_WAIT_S = 30.0
_KEPT = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of the service.

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
        """Return the body as JSON.

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
    """Connections to one service, kept between requests. Several threads may ask at once."""

    def __init__(self, url: str, token: str | None, *, timeout: float, tries: int) -> None:
        _check_url(url)
        if not timeout > 0:
            raise InvalidInputError(f"timeout must be more than 0 seconds, got {timeout}")
        if tries < 1:
            raise InvalidInputError(f"tries must be at least 1, got {tries}")
        if token is not None and not (
            token.isascii() and token.isprintable() and token.strip() == token != ""
        ):
            raise InvalidInputError("token must be printable ASCII without spaces around it")
        self.url = url.rstrip("/")
        self._tries = tries
        headers = {"Accept": "application/json", "User-Agent": f"birdsearch/{__version__}"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        self._client = _open(headers, timeout)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Body | None = None,
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
        import httpx

        request = self._client.build_request(
            method,
            self.url + path,
            params={name: value for name, value in (query or {}).items() if value is not None},
            content=None if body is None else body.content,
            files=None if body is None else body.files,
            headers={**(headers or {}), **({} if body is None else body.headers)},
        )
        again = method == "GET" if is_read is None else is_read
        for left in reversed(range(self._tries if again else 1)):
            try:
                response = self._client.send(request)
            except httpx.TransportError as error:
                if left and not isinstance(error, httpx.TimeoutException | httpx.ConnectError):
                    continue
                reason = str(error) or type(error).__name__
                raise ServiceError(f"{self.url}: {method} {path}: {reason}") from error
            answer = Answer(response.status_code, response.headers, response.content)
            wait = _wait_of(answer)
            if wait is None or not left:
                return answer
            time.sleep(wait)
        raise AssertionError("the last try returns or raises")

    def close(self) -> None:
        """Close all connections; nothing can be asked afterwards."""
        self._client.close()


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInputError(
            f"url {url!r} must be like http://127.0.0.1:8000 or https://birds.example.org"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise InvalidInputError("url must have no user, query or fragment; pass the token as token=")
    try:
        _ = parts.port
    except ValueError as error:
        raise InvalidInputError(f"url {url!r}: {error}") from None


def _open(headers: Mapping[str, str], timeout: float) -> httpx.Client:
    try:
        import httpx
    except ModuleNotFoundError as error:
        raise BirdsearchError(
            "`birdsearch.Client` needs httpx; install it with: pip install 'birdsearch[client]'"
        ) from error
    return httpx.Client(
        headers=headers,
        timeout=timeout,
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT, keepalive_expiry=None),
        # The certificates of the system; no proxy and no password that the environment names.
        verify=ssl.create_default_context(),
        trust_env=False,
    )


def _wait_of(answer: Answer) -> float | None:
    """Return the seconds to wait before asking again, or None if the answer is final."""
    if answer.status != 503:
        return None
    try:
        seconds = float(answer.headers["retry-after"])
    except (KeyError, ValueError):
        return None
    return min(max(seconds, 0.0), _LONGEST_WAIT_S)
