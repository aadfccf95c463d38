"""Conditions on photos as requests give them: query parameters and JSON objects become one `Where`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.filters import Where, parse_bbox, parse_near
from birdsearch.search.service.state import Service

__all__ = ["WhereModel", "WhereQuery", "where_of"]

_SHORT, _LONG, _MANY = 200, 4096, 100
_ESCAPE = re.compile(r"\\(?:([tnr])|x([0-9a-f]{2})|u([0-9a-f]{4})|U([0-9a-f]{8}))")

_Short = Annotated[str, Field(max_length=_SHORT)]
_Path = Annotated[str, Field(min_length=1, max_length=_LONG)]


class WhereModel(BaseModel):
    """Conditions on photos; all that are given must hold."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [{"since": "2024-05", "near": "47.5,9.2,10", "under": ["archive/2024"]}]
        },
    )

    since: _Short | None = Field(
        None, description="Taken at this local time or later: 2023, 2023-05-14T06:30."
    )
    until: _Short | None = Field(
        None, description="Taken then or earlier; a year, month or day counts to its end."
    )
    near: _Short | None = Field(None, description="LAT,LON,KM: taken within so many kilometres of a place.")
    bbox: _Short | None = Field(
        None, description="SOUTH,WEST,NORTH,EAST in degrees; WEST > EAST crosses 180."
    )
    camera: _Short | None = Field(None, description="Part of the make and model, or a pattern: nikon*z*.")
    under: list[_Path] = Field(
        default_factory=list,
        max_length=_MANY,
        description="Has a file in one of these folders, as paths are shown.",
    )
    exclude_under: list[_Path] = Field(
        default_factory=list,
        max_length=_MANY,
        description="Leave out what is only in one of these folders.",
    )
    taxon: _Short | None = Field(
        None, description="Verified to be this species, or of this genus, family or order."
    )
    verified: bool | None = Field(None, description="Has a verified label, or has none.")


def _where_query(
    since: Annotated[_Short | None, Query(description=WhereModel.model_fields["since"].description)] = None,
    until: Annotated[_Short | None, Query(description=WhereModel.model_fields["until"].description)] = None,
    near: Annotated[_Short | None, Query(description=WhereModel.model_fields["near"].description)] = None,
    bbox: Annotated[_Short | None, Query(description=WhereModel.model_fields["bbox"].description)] = None,
    camera: Annotated[_Short | None, Query(description=WhereModel.model_fields["camera"].description)] = None,
    under: Annotated[
        list[_Path] | None, Query(max_length=_MANY, description=WhereModel.model_fields["under"].description)
    ] = None,
    exclude_under: Annotated[
        list[_Path] | None,
        Query(max_length=_MANY, description=WhereModel.model_fields["exclude_under"].description),
    ] = None,
    taxon: Annotated[_Short | None, Query(description=WhereModel.model_fields["taxon"].description)] = None,
    verified: Annotated[
        bool | None, Query(description=WhereModel.model_fields["verified"].description)
    ] = None,
) -> WhereModel:
    return WhereModel(
        since=since,
        until=until,
        near=near,
        bbox=bbox,
        camera=camera,
        under=under or [],
        exclude_under=exclude_under or [],
        taxon=taxon,
        verified=verified,
    )


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
    return Where(
        since=given.since,
        until=given.until,
        near=None if given.near is None else parse_near(given.near),
        bbox=None if given.bbox is None else parse_bbox(given.bbox),
        camera=given.camera,
        under=_folders(service, given.under),
        exclude_under=_folders(service, given.exclude_under),
        taxon=given.taxon,
        verified=given.verified,
        coarse_by=None if service.options.exact_places else service.sensitive,
    )


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
