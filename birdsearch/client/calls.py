"""Calls of a service: JSON in and out, pages, and errors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any, Self, TypeVar

from birdsearch.client.connection import Answer, Connections
from birdsearch.client.problems import raise_problem
from birdsearch.client.requests import Body
from birdsearch.errors import ServiceError
from birdsearch.search.json_records import from_json

__all__ = ["Calls", "decode"]

T = TypeVar("T")


def decode(kind: type[T], value: Any) -> T:
    """Return the record that a service sent.

    Args:
        kind: What it is, such as `Photo`.
        value: JSON types.

    Raises:
        ServiceError: A value is missing or of another type: the service is of another version.
    """
    try:
        return from_json(kind, value)
    except ValueError as error:
        raise ServiceError(f"the service sent something of another version: {error}") from None


class Calls:
    """A service that can be called; `Client` adds what it can be asked."""

    def __init__(self, url: str, token: str | None = None, *, timeout: float = 60.0, tries: int = 4) -> None:
        self._connections = Connections(url, token, timeout=timeout, tries=tries)

    @property
    def url(self) -> str:
        """Address of the service."""
        return self._connections.url

    def close(self) -> None:
        """Close the connections that are kept; closing twice is harmless."""
        self._connections.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Body | None = None,
        accept: str | None = None,
        is_read: bool | None = None,
    ) -> Answer:
        """Call, and raise what the service refuses."""
        headers = {} if accept is None else {"Accept": f"{accept}, application/problem+json;q=0.1"}
        answer = self._connections.request(
            method,
            path,
            query=query,
            body=body,
            headers=headers,
            is_read=is_read,
        )
        if not 200 <= answer.status < 300:
            raise_problem(answer)
        return answer

    def _json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Body | None = None,
        is_read: bool | None = None,
    ) -> Any:
        """Call for JSON."""
        return self._answer(method, path, query=query, body=body, is_read=is_read).json()

    def _pages(self, path: str, query: Mapping[str, Any], name: str, kind: type[T]) -> Iterator[T]:
        """Yield the items of a list that is served in pages, each page once it is needed."""
        cursor = None
        while True:
            page = self._json("GET", path, query={**query, "cursor": cursor})
            for each in page[name]:
                yield decode(kind, each)
            cursor = page["next"]
            if cursor is None:
                return
