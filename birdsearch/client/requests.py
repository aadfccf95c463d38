"""Bodies of requests: photos as uploads, conditions and regions as JSON."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

from birdsearch.display_path import display_path
from birdsearch.errors import InvalidInputError
from birdsearch.indexer.catalog.filters import FILTERS, Where
from birdsearch.model.images.box import Box
from birdsearch.model.images.photo import PhotoLimits, upright_rgb
from birdsearch.search.query.hits import QueryPhoto
from birdsearch.search.query.inputs import Photo, id_or_path, photo_name, read_file, region_of

__all__ = ["Body", "box_json", "photo_body", "where_json"]


_File = tuple[str | None, bytes, str]


@dataclass(frozen=True, slots=True)
class Body:
    """The body of a request: JSON, or a form with files.

    Attributes:
        content: JSON, or None.
        files: Fields of a form: name, and (file name or None, content, content type); or None.
    """

    content: bytes | None = None
    files: Sequence[tuple[str, _File]] | None = None

    @property
    def headers(self) -> Mapping[str, str]:
        """Header fields that go with the body; those of a form depend on how it is written."""
        return {} if self.content is None else {"Content-Type": "application/json"}

    @classmethod
    def json(cls, value: object) -> Body:
        """Return a body of JSON.

        Raises:
            InvalidInputError: It holds text that is not Unicode, such as a path that is not UTF-8.
        """
        return cls(_json(value))


def _json(value: object) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except ValueError as error:
        raise InvalidInputError(f"this cannot be sent as JSON: {error}") from None


def photo_body(photo: Photo, request: Mapping[str, object]) -> tuple[Body, QueryPhoto | None]:
    """Return the body that asks about a photo.

    Args:
        photo: A path, whose file is sent; a Pillow image, which is sent upright as PNG; or an id.
        request: What is asked about it.

    Returns:
        The body, and how the photo is called here; None for an id.

    Raises:
        PhotoError: The file cannot be read; the message names it.
        InvalidInputError: It is none of what a photo can be.
    """
    if isinstance(photo, Image.Image):
        file = io.BytesIO()
        upright_rgb(photo).save(file, "PNG", compress_level=1)
        return _form("image.png", file.getvalue(), request), QueryPhoto(photo_name(photo))
    named = id_or_path(photo)
    if isinstance(named, int):
        return Body.json({**request, "photo_id": named}), None
    query = QueryPhoto(display_path(named), file=named)
    return _form(query.path.rpartition("/")[2], read_file(named, PhotoLimits()), request), query


def _form(name: str, content: bytes, request: Mapping[str, object]) -> Body:
    """Return a form with a file `photo` and a field `request`."""
    fields: list[tuple[str, _File]] = [
        ("request", (None, _json(request), "application/json")),
        ("photo", (name, content, "application/octet-stream")),
    ]
    return Body(files=fields)


def where_json(where: Where | None) -> dict[str, Any]:
    """Return conditions as requests take them, those that are given."""
    if where is None:
        return {}
    given = {each.name: each.to_json(getattr(where, each.name)) for each in FILTERS}
    return {name: value for name, value in given.items() if value is not None}


def box_json(box: Box | Sequence[float] | None) -> list[float] | None:
    """Return a region as requests take it.

    Raises:
        InvalidInputError: It is not four numbers, or reaches out of the frame.
    """
    checked = region_of(box)
    return None if checked is None else [checked.x, checked.y, checked.w, checked.h]
