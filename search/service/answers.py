"""Records as answers of the API."""

from __future__ import annotations

import pydantic_core
from starlette.responses import Response

from birdsearch.search.json_records import Record, to_json

__all__ = ["json_answer"]


def json_answer(record: Record, status: int = 200) -> Response:
    """Return a response with a record as JSON.

    NOTE: FastAPI would check records of our own making field by field; a route names its record as
    `response_model`, which describes the answer only.

    Args:
        record: What is answered.
        status: HTTP status.
    """
    return Response(pydantic_core.to_json(to_json(record)), status, media_type="application/json")
