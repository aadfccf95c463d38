"""The description of the API (OpenAPI 3.1), with errors and tokens as the service has them."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterable
from typing import Any, get_args, get_type_hints

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
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
    answers = (route.response_model for route in app.routes if isinstance(route, APIRoute))
    records = _records_of([Problem, *answers])
    for record in records:
        _describe_record(schemas[record.__name__], record)
    schemas["Box"] = _BOX
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


def _records_of(kinds: Iterable[Any]) -> set[type[Record]]:
    """Return the records among some types, and those that they hold."""
    found: set[type[Record]] = set()
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        waiting += get_args(kind)
        if isinstance(kind, type) and issubclass(kind, Record) and kind not in found:
            found.add(kind)
            waiting += get_type_hints(kind).values()
    return found


def _describe_record(schema: dict[str, Any], record: type[Record]) -> None:
    """Describe a record by its docstring, and say that every answer has all of its fields and no more."""
    about, _, attributes = inspect.cleandoc(record.__doc__ or "").partition("\n\nAttributes:\n")
    schema["description"] = about
    schema["additionalProperties"] = False
    names = {each.name: each.metadata.get("alias", each.name) for each in dataclasses.fields(record)}
    optional = {each.name for each in dataclasses.fields(record) if "exclude_if" in each.metadata}
    schema["required"] = [
        name for own, name in names.items() if name in schema["properties"] and own not in optional
    ]
    for own, text in _ATTRIBUTE.findall(attributes):
        if names[own] in schema["properties"]:
            schema["properties"][names[own]]["description"] = " ".join(text.split())
