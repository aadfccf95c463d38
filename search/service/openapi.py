"""The description of the API (OpenAPI 3.1), with errors and tokens as the service has them."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from birdsearch.search.service.problems import MEDIA_TYPE, Problem
from birdsearch.search.service.schemas.search import LabelRequest, SearchRequest
from birdsearch.search.service.sessions import COOKIE

__all__ = ["describe"]

_REF = "#/components/schemas/{model}"
# What no route has as its parameter or answer: errors, and bodies that a route reads itself.
_APART: list[tuple[type[BaseModel], JsonSchemaMode]] = [
    (Problem, "serialization"),
    (SearchRequest, "validation"),
    (LabelRequest, "validation"),
]
# What FastAPI says of its own errors, which this service does not send.
_FOREIGN = ("HTTPValidationError", "ValidationError")


def describe(app: FastAPI) -> dict[str, Any]:
    """Describe an app; made once, and kept.

    Args:
        app: The app with all its routes.

    Returns:
        The description, in JSON types.
    """
    if app.openapi_schema is None:
        app.openapi_schema = _described(app)
    return app.openapi_schema


def _described(app: FastAPI) -> dict[str, Any]:
    described = get_openapi(
        title=app.title,
        version=app.version,
        description=app.description,
        routes=app.routes,
        separate_input_output_schemas=app.separate_input_output_schemas,
    )
    parts = described.setdefault("components", {})
    schemas = parts.setdefault("schemas", {})
    schemas.update(models_json_schema(_APART, ref_template=_REF)[1]["$defs"])
    for name in _FOREIGN:
        schemas.pop(name, None)
    for operations in described["paths"].values():
        for operation in operations.values():
            _tell_problems(operation["responses"])
    parts["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    # Where no token is set, none is needed.
    described["security"] = [{}, {"token": []}, {"session": []}]
    return described


def _tell_problems(responses: dict[str, Any]) -> None:
    """What a value that is not accepted gets, where FastAPI describes it by its own shape."""
    refused = responses.get("422", {}).get("content", {})
    if "application/json" in refused:
        responses["422"] = {
            "description": "A value was not accepted.",
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }
