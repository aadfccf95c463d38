"""A failed request as a problem (RFC 9457): frozen, and the same for JSON, OpenAPI and the client."""

from __future__ import annotations

from dataclasses import dataclass, field

from birdsearch.search.json_records import OPTIONAL, Record

__all__ = ["Fault", "Problem"]


@dataclass(frozen=True, slots=True)
class Fault(Record):
    """One value of a request that was not accepted.

    Attributes:
        where: Where the value is, such as `body.k` or `query.limit`.
        message: What is wrong with it.
    """

    where: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem(Record):
    """What went wrong (RFC 9457).

    Attributes:
        type: Kind of the problem; always `about:blank`, so that the status says it.
        title: Name of the status, such as `Not Found`.
        status: HTTP status.
        detail: One sentence for a person.
        errors: The values that were not accepted, if that is the problem.
        error: The error that the Python interface raises for this.
        stage: Of a photo: where it failed, such as `decode`.
        code: Of a photo: what failed, such as `truncated`.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: tuple[Fault, ...] | None = field(default=None, metadata=OPTIONAL)
    error: str | None = field(default=None, metadata=OPTIONAL)
    stage: str | None = field(default=None, metadata=OPTIONAL)
    code: str | None = field(default=None, metadata=OPTIONAL)
