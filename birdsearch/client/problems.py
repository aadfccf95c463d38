"""Refusals of the service as the errors that `Catalog` raises for the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

from birdsearch import errors
from birdsearch.client.connection import Answer

__all__ = ["NotFoundError", "error_of", "raise_problem"]

_PROBLEM = "application/problem+json"


class NotFoundError(errors.InvalidInputError):
    """There is no such photo, job or cluster."""


def raise_problem(answer: Answer) -> NoReturn:
    """Raise the error that an answer of status 400 or more stands for; see `error_of`."""
    problem = answer.json() if answer.media_type == _PROBLEM else {}
    raise error_of({"status": answer.status, **problem}, f"the service answered with status {answer.status}")


def error_of(problem: Mapping[str, Any], otherwise: str) -> errors.BirdsearchError:
    """Return the error that a problem (RFC 9457) stands for.

    Args:
        problem: The problem.
        otherwise: What is said of one without a detail.

    Returns:
        The error that the service names, such as PhotoError or CatalogLockedError; InvalidInputError where a value
        was not accepted or there is no such thing; ServiceError for anything else: no token, not allowed, too
        busy, a fault of the service, another program at its address.
    """
    detail, status = str(problem.get("detail") or otherwise), problem.get("status")
    name = problem.get("error")
    if name == "PhotoError":
        return errors.PhotoError(str(problem.get("stage")), str(problem.get("code")), detail)
    kind = getattr(errors, name) if name in errors.__all__ else None
    if kind is not None:
        return kind(detail)  # type: ignore[no-any-return]
    if "detail" in problem and status == 404:
        return NotFoundError(detail)
    if "detail" in problem and status in (413, 415, 422):
        return errors.InvalidInputError(detail)
    return errors.ServiceError(detail, status=status)
