"""Conditions on photos as requests give them: query parameters and JSON objects become one `Where`."""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.filters import FILTERS, Filter, Where
from birdsearch.search.service.state import Service

__all__ = ["WhereModel", "WhereQuery", "where_of"]

_SHORT, _LONG, _MANY = 200, 4096, 100
_ESCAPE = re.compile(r"\\(?:([tnr])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")

_Short = Annotated[str, Field(max_length=_SHORT)]
_Path = Annotated[str, Field(min_length=1, max_length=_LONG)]


def _described(each: Filter) -> str:
    if each.kind == "folders":
        return f"{each.help} As paths are shown."
    return each.help if each.kind == "flag" or each.metavar == "TEXT" else f"{each.metavar}: {each.help}"


_TYPES: Mapping[str, Any] = {
    "text": Annotated[_Short | None, Field()],
    "folders": Annotated[list[_Path], Field(max_length=_MANY)],
    "flag": bool | None,
}


class _Conditions(BaseModel):
    """Conditions on photos; all that are given must hold."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"since": "2024-05", "near": "47.5,9.2,10", "under": ["archive/2024"]}]
        },
    )


if TYPE_CHECKING:
    WhereModel = _Conditions
else:
    WhereModel = create_model(
        "WhereModel",
        __base__=_Conditions,
        __doc__=_Conditions.__doc__,
        __module__=__name__,
        **{
            each.name: (
                _TYPES[each.kind],
                Field(default_factory=list, description=_described(each))
                if each.kind == "folders"
                else Field(None, description=_described(each)),
            )
            for each in FILTERS
        },
    )


def _where_query(**given: Any) -> WhereModel:
    return WhereModel(**{name: value for name, value in given.items() if value is not None})


def _parameter(each: Filter) -> inspect.Parameter:
    limit = _MANY if each.kind == "folders" else None
    kind = list[_Path] | None if each.kind == "folders" else _TYPES[each.kind]
    return inspect.Parameter(
        each.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[kind, Query(max_length=limit, description=_described(each))],
    )


# FastAPI makes a query parameter of each parameter of the signature.
_where_query.__signature__ = inspect.Signature([_parameter(each) for each in FILTERS])  # type: ignore[attr-defined]

WhereQuery = Annotated[WhereModel, Depends(_where_query)]
"""The conditions in a request's query parameters, as a dependency of an endpoint."""


def where_of(service: Service, given: WhereModel | Mapping[str, object]) -> Where:
    """Return the conditions that a request names.

    Unless the service shows exact places, `near` and `bbox` see places of sensitive species as they are shown.

    Args:
        service: Whose catalog is asked; its roots say what a shown path means.
        given: A model, or an object with the same names.

    Returns:
        The conditions.

    Raises:
        InvalidInputError: A value is outside its limits, or a name is unknown.
    """
    if not isinstance(given, WhereModel):
        try:
            given = WhereModel.model_validate(given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            raise InvalidInputError(f"where.{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    conditions = given.model_dump()
    for each in FILTERS:
        if each.kind == "folders":
            conditions[each.name] = _folders(service, conditions[each.name])
    return Where.from_given(conditions, None if service.options.exact_places else service.sensitive)


def _folders(service: Service, shown: Sequence[str]) -> tuple[bytes, ...]:
    """Return the absolute folders that shown paths name, escaped or as they are."""
    names = service.paths.names() if shown else {}
    found: set[bytes] = set()
    for text in shown:
        if "\0" in text:
            raise InvalidInputError("under: a path holds a null character")
        root = None
        inside = text
        if not service.options.show_paths:
            _check_shown(text, names)
        if not text.startswith("/"):
            name, _, inside = text.partition("/")
            root = next((path for path, known in names.items() if known == name), None)
            if root is None:
                raise InvalidInputError(
                    f"under {text!r}: no indexed folder is called {name!r}; there are: "
                    f"{', '.join(sorted(names.values())) or 'none'}"
                )
        for spelling in {inside, _ESCAPE.sub(_unescaped, inside)}:
            path = os.fsencode(spelling)
            # As bytes, which Path does not take.
            found.add(path if root is None else os.path.join(root, path.lstrip(b"/")))  # noqa: PTH118
    return tuple(sorted(found))


def _check_shown(text: str, names: Mapping[bytes, str]) -> None:
    """Refuse what would tell by its hits where on this machine the indexed folders are."""
    if text.startswith("/") or ".." in (*text.split("/"), *_ESCAPE.sub(_unescaped, text).split("/")):
        raise InvalidInputError(
            f"under {text!r}: this service shows no absolute paths and takes none; name a folder as it is shown, "
            f"such as {min(names.values(), default='archive')}"
        )


def _unescaped(match: re.Match[str]) -> str:
    """Return what an escape that `birdsearch.display_path.display_path` writes stands for."""
    letter, byte, short, long = match.groups()
    if letter is not None:
        return {"t": "\t", "n": "\n", "r": "\r"}[letter]
    if byte is not None:
        return bytes([int(byte, 16)]).decode("utf-8", "surrogateescape")
    code = int(short or long, 16)
    return chr(code) if code < 0xD800 or 0xDFFF < code <= sys.maxunicode else match.group()
