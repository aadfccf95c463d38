"""A check of query parameters: those a route does not have are refused, as a misspelt one would be ignored."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute

__all__ = ["KnownParameters"]


class KnownParameters:
    """A dependency of every route of the API."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], frozenset[str]] = {}

    async def __call__(self, request: Request) -> None:
        """Refuse a request whose query has a parameter that its route does not take.

        Raises:
            RequestValidationError: It has one.
        """
        route = request.scope.get("route")
        if not request.scope["query_string"] or not isinstance(route, APIRoute):
            return
        key = (request.method, route.path)
        known = self._names.get(key)
        if known is None:
            known = self._names[key] = frozenset(_names_of(route.dependant))
        for name in request.query_params:
            if name not in known:
                takes = f"it takes {', '.join(sorted(known))}" if known else "it takes none"
                message = f"there is no such query parameter here; {takes}"
                raise RequestValidationError(
                    [{"loc": ("query", name[:100]), "msg": message, "type": "extra"}]
                )


def _names_of(dependant: Dependant) -> Iterator[str]:
    for parameter in dependant.query_params:
        yield parameter.alias
    for inner in dependant.dependencies:
        yield from _names_of(inner)
