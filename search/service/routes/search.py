"""Search for similar photos, and for labels of a photo."""

from __future__ import annotations

import os
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from birdsearch.display_path import display_path
from birdsearch.search.query.hits import QueryResult
from birdsearch.search.service.embedding import PhotoSource
from birdsearch.search.service.problems import responses
from birdsearch.search.service.schemas.search import LabelRequest, SearchAnswer, SearchRequest
from birdsearch.search.service.searching import SearcherDep

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["search"])

R = TypeVar("R", bound=LabelRequest)

_PHOTO, _REQUEST = "photo", "request"
_LONGEST_NAME, _LONGEST_REQUEST = 200, 1 << 20


def _body(schema: type[LabelRequest]) -> dict[str, Any]:
    """Return how a body is described, which FastAPI cannot tell from a function that reads it itself."""
    request = {"$ref": f"#/components/schemas/{schema.__name__}"}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": request},
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": [_PHOTO],
                        "properties": {
                            _PHOTO: {
                                "type": "string",
                                "format": "binary",
                                "description": "The photo's file.",
                            },
                            _REQUEST: {
                                "type": "string",
                                "contentMediaType": "application/json",
                                "contentSchema": request,
                                "description": "The rest, as JSON.",
                            },
                        },
                    }
                },
            },
        }
    }


# NOTE: `async`, since most of the time is waiting for a batch: a search takes no thread from other requests.
@router.post(
    "/search",
    response_model=SearchAnswer,
    responses=responses(404, 413, 415, 422),
    openapi_extra=_body(SearchRequest),
)
async def post_search(searcher: SearcherDep, request: Request) -> Response:
    """Find the photos that are most like a photo, a region of it, a vector, or some examples.

    With `like` and `unlike` the search is moved towards and away from photos of the catalog (Rocchio, 1971);
    `labels` and `vector` are still those of what was asked about.
    """
    return await _answered(searcher, request, SearchRequest)


@router.post(
    "/label",
    response_model=QueryResult,
    responses=responses(404, 413, 415, 422),
    openapi_extra=_body(LabelRequest),
)
async def post_label(searcher: SearcherDep, request: Request) -> Response:
    """Say what is on a photo, with the verified photos that say so."""
    return await _answered(searcher, request, LabelRequest)


async def _answered(searcher: SearcherDep, request: Request, schema: type[LabelRequest]) -> Response:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        answer = await searcher.answer(_parsed(schema, await request.body()))
    elif kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=1, max_part_size=_LONGEST_REQUEST) as form:
            asked, upload = _taken(schema, form)
            answer = await searcher.answer(asked, upload)
    else:
        raise HTTPException(415, "the body must be application/json or multipart/form-data")
    return Response(answer, media_type="application/json")


def _parsed(schema: type[R], body: bytes | str, where: tuple[str, ...] = ("body",)) -> R:
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**one, "loc": (*where, *one["loc"])} for one in found]) from error


def _taken(schema: type[R], form: FormData) -> tuple[R, PhotoSource]:
    """Return the request and the photo of a form."""
    unknown = sorted(set(form) - {_PHOTO, _REQUEST})
    photo, rest = form.get(_PHOTO), form.get(_REQUEST, "{}")
    if unknown:
        raise _refused(unknown[0], f"the form has the fields `{_PHOTO}` and `{_REQUEST}` only")
    if not isinstance(photo, UploadFile):
        raise _refused(_PHOTO, "a file is needed")
    if not isinstance(rest, str):
        raise _refused(_REQUEST, "must be JSON, not a file")
    name = os.path.basename((photo.filename or "").replace("\\", "/"))  # noqa: PTH119 it need not be a path
    shown = display_path(os.fsencode(name.replace("\0", ""))[:_LONGEST_NAME]) or "photo"
    suffix = os.path.splitext(name)[1]  # noqa: PTH122 it need not be a path
    return _parsed(schema, rest, ("body", _REQUEST)), PhotoSource(shown, photo.file, suffix)


def _refused(field: str, message: str) -> RequestValidationError:
    return RequestValidationError([{"loc": ("body", field), "msg": message, "type": "value_error"}])
