"""What the service refuses, as the errors that `Catalog` raises for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from birdsearch import errors
from birdsearch.client.connection import Answer

__all__ = ["raise_problem"]

_PROBLEM = "application/problem+json"


def raise_problem(answer: Answer) -> NoReturn:
    """Raise the error that an answer of status 400 or more stands for.

    Raises:
        BirdsearchError: The error that the service names, such as PhotoError or CatalogLockedError.
        InvalidInputError: A value was not accepted, or there is no such thing.
        ServiceError: Anything else: no token, not allowed, too busy, a fault of the service, another program.
    """
    problem = answer.json() if answer.media_type == _PROBLEM else {}
    detail = str(problem.get("detail") or f"the service answered with status {answer.status}")
    named = problem.get("error")
    if named == "PhotoError":
        raise _photo_error(problem, detail)
    kind = getattr(errors, str(named), None) if named in errors.__all__ else None
    if kind is not None and issubclass(kind, errors.BirdsearchError):
        raise kind(detail)
    if problem and answer.status in (404, 413, 415, 422):
        raise errors.InvalidInputError(detail)
    raise errors.ServiceError(detail, status=answer.status)


def _photo_error(problem: Mapping[str, Any], detail: str) -> errors.PhotoError:
    return errors.PhotoError(
        str(problem.get("stage", "read")), str(problem.get("code", "unreadable")), detail
    )
