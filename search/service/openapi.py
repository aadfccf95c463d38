"""The description of the API (OpenAPI 3.1), with errors and tokens as the service has them."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode

from birdsearch.search.json_records import Record
from birdsearch.search.problem import Problem
from birdsearch.search.service.problems import MEDIA_TYPE
from birdsearch.search.service.schemas.search import LabelRequest, SearchRequest
from birdsearch.search.service.sessions import COOKIE

__all__ = ["describe"]

_REF = "#/components/schemas/{model}"
# What no route has as its parameter or answer: errors, and bodies that a route reads itself.
_APART: list[tuple[Any, JsonSchemaMode]] = [
    (Problem, "serialization"),
    (SearchRequest, "validation"),
    (LabelRequest, "validation"),
]
# One attribute of a Google style docstring, whose further lines are indented more.
_ATTRIBUTE = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)
# What FastAPI says of its own errors, which this service does not send.
_FOREIGN = ("HTTPValidationError", "ValidationError")

_BOX = {
    "type": "array",
    "items": {"type": "number"},
    "minItems": 4,
    "maxItems": 4,
    "description": "x, y, w, h in parts of the upright frame.",
}


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
    apart = [(kind.__name__, mode, TypeAdapter(kind)) for kind, mode in _APART]
    schemas.update(TypeAdapter.json_schemas(apart, ref_template=_REF)[1]["$defs"])
    for name in _FOREIGN:
        schemas.pop(name, None)
    for record in _records(Record):
        if record.__name__ in schemas:
            _describe_record(schemas[record.__name__], record)
    schemas["Box"] = _BOX
    for operations in described["paths"].values():
        for operation in operations.values():
            _describe_refusal(operation["responses"])
    parts["securitySchemes"] = {
        "token": {"type": "http", "scheme": "bearer"},
        "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
    }
    # Where no token is set, none is needed.
    described["security"] = [{}, {"token": []}, {"session": []}]
    return described


def _describe_refusal(responses: dict[str, Any]) -> None:
    """Describe the answer to a value that is not accepted as a problem, not in the shape of FastAPI."""
    refused = responses.get("422", {}).get("content", {})
    if "application/json" in refused:
        responses["422"] = {
            "description": "A value was not accepted.",
            "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
        }


def _records(base: type[Record]) -> Iterator[type[Record]]:
    """Yield all records, those that extend another one as well."""
    for record in base.__subclasses__():
        yield record
        yield from _records(record)


def _describe_record(schema: dict[str, Any], record: type[Record]) -> None:
    """Describe a record by its docstring, and say that every answer has all of its fields and no more."""
    properties = schema["properties"]
    texts: dict[str, str] = {}
    for kind in reversed(record.__mro__):
        about, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:\n")
        texts |= dict(_ATTRIBUTE.findall(attributes))
    schema["description"], schema["additionalProperties"], schema["required"] = about, False, []
    for each in dataclasses.fields(record):
        name = each.metadata.get("alias", each.name)
        if name in properties:
            if "exclude_if" not in each.metadata:
                schema["required"].append(name)
            if each.name in texts:
                properties[name]["description"] = " ".join(texts[each.name].split())
