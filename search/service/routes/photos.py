"""The catalog, its photos, thumbnails of them, and names of taxa."""

from __future__ import annotations

import json
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from birdsearch.errors import InvalidInputError, PhotoError
from birdsearch.indexer.catalog.counts import catalog_summary
from birdsearch.indexer.catalog.photo_content import find_content
from birdsearch.indexer.catalog.photo_lists import list_ids, page_of_ids
from birdsearch.search.catalog_info import CatalogInfo, NetworkInfo, RootInfo
from birdsearch.search.photos import Photo
from birdsearch.search.query.inputs import parse_box
from birdsearch.search.service.answers import json_answer
from birdsearch.search.service.negotiation import MEDIA_TYPES, choose_encoding
from birdsearch.search.service.originals import original_response
from birdsearch.search.service.photo_files import opened
from birdsearch.search.service.photo_rows import read_photo_rows
from birdsearch.search.service.problems import ProblemResponse, responses
from birdsearch.search.service.schemas.photos import PhotoIds, PhotoPage, Sort, Taxa
from birdsearch.search.service.state import Service, ServiceDep
from birdsearch.search.service.taxon_names import find_taxa
from birdsearch.search.service.thumb_makers import ThumbMakersBusyError
from birdsearch.search.service.thumbs import SIZES, ThumbCache
from birdsearch.search.service.where import WhereQuery, where_of
from birdsearch.version import __version__

__all__ = ["router"]

router = APIRouter(prefix="/api", tags=["photos"])

_LARGEST_ID = (1 << 63) - 1
_MOST_IDS = 500
# AVIF takes longest to make, the more so the larger it is.
_LARGEST_AVIF = 320
_KEPT = "private, max-age=86400"

_PhotoId = Annotated[int, Path(ge=1, le=_LARGEST_ID, description="Number of the photo.")]


@router.get("/catalog", response_model=CatalogInfo, responses=responses())
def get_catalog(service: ServiceDep) -> Response:
    """Return what the catalog holds, and what this service does."""
    store, options = service.store, service.options
    names = service.paths.names()
    record = store.active_model()
    held = catalog_summary(store)
    info = CatalogInfo(
        name=store.path.name,
        photos=held.counts.photos,
        verified_photos=held.counts.verified,
        files_missing=held.files_missing,
        model=None
        if record is None
        else NetworkInfo(record.name, len(record.classes), record.embedding_size),
        version=__version__,
        features={
            "originals": options.originals,
            "apply": options.apply,
            "read_only": options.read_only,
            "token": options.token is not None,
            "exact_places": options.exact_places,
        },
        cameras=held.cameras,
        roots=tuple(
            RootInfo(root_id, names.get(path, ""), held.photos_of_roots.get(root_id, 0))
            for root_id, path in store.roots()
        ),
        first=held.first,
        last=held.last,
    )
    return json_answer(info)


@router.get("/photos", response_model=PhotoPage, responses=responses(422))
def list_photos(
    service: ServiceDep,
    where: WhereQuery,
    sort: Annotated[Sort, Query(description="Photos without a time come last.")] = "captured_at",
    limit: Annotated[int, Query(ge=1, le=500, description="How many at most.")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=1000, description="`next` of the page before these.")
    ] = None,
    ids: Annotated[
        str | None,
        Query(
            max_length=20 * _MOST_IDS,
            description="These photos in this order, such as 3,1,2; the other parameters do not count then.",
        ),
    ] = None,
) -> Response:
    """Return a page of the photos that meet the conditions, or photos by their ids."""
    if ids is not None:
        photos = read_photo_rows(service, _parsed_ids(ids))
        return json_answer(PhotoPage(tuple(photos), None, len(photos)))
    page = page_of_ids(service.store, where_of(service, where), sort, limit, cursor)
    photos = read_photo_rows(service, page.ids)
    return json_answer(PhotoPage(tuple(photos), page.next, page.total))


def _parsed_ids(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if len(parts) > _MOST_IDS:
        raise InvalidInputError(f"ids: {len(parts)} are given, at most {_MOST_IDS} are taken")
    if not all(part.isascii() and part.isdigit() and len(part) <= 19 for part in parts):
        raise InvalidInputError("ids must be whole numbers with commas between them, such as 3,1,2")
    return [number for number in map(int, parts) if number <= _LARGEST_ID]


@router.get("/photo-ids", responses=responses(422), response_model=PhotoIds)
def list_photo_ids(
    service: ServiceDep,
    where: WhereQuery,
    sort: Annotated[Sort, Query(description="Photos without a time come last.")] = "captured_at",
) -> Response:
    """Return the ids of all photos that meet the conditions."""
    ids = list_ids(service.store, where_of(service, where), sort)
    # A hundred thousand numbers that are known to be numbers.
    return Response(json.dumps({"ids": ids}, separators=(",", ":")), media_type="application/json")


@router.get("/photos/{photo_id}", response_model=Photo, responses=responses(404, 422))
def get_photo(service: ServiceDep, photo_id: _PhotoId) -> Response:
    """Return one photo."""
    found = read_photo_rows(service, [photo_id])
    if not found:
        raise HTTPException(404, f"no photo {photo_id}")
    return json_answer(found[0])


@router.get(
    "/photos/{photo_id}/thumb",
    responses={
        200: {"content": {media_type: {} for media_type in MEDIA_TYPES.values()}},
        304: {"description": "The client has it."},
        **responses(404, 406, 422),
    },
    response_class=Response,
)
async def get_thumb(
    service: ServiceDep,
    request: Request,
    photo_id: _PhotoId,
    size: Annotated[
        int, Query(description=f"Pixels of the longer side: {', '.join(map(str, SIZES))}. Never enlarged.")
    ] = 320,
    box: Annotated[
        str | None, Query(max_length=200, description="Only this region: x,y,w,h in parts of the frame.")
    ] = None,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
    if_none_match: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Return a photo made small: upright, in sRGB, without metadata."""
    async with service.thumb_turns.of(request) as is_wanted:
        if not is_wanted:
            # The client scrolled on, and those who still look are not to wait for this one.
            return ProblemResponse(408, "the client has gone")
        return await run_in_threadpool(_thumb, service, photo_id, size, box, accept, if_none_match)


def _thumb(
    service: Service, photo_id: int, size: int, box: str | None, accept: str | None, if_none_match: str | None
) -> Response:
    if size not in SIZES:
        raise InvalidInputError(f"size must be one of {', '.join(map(str, SIZES))}, got {size}")
    region = None if box is None else parse_box(box)
    if region is not None and region.is_whole:
        region = None
    available = ("JPEG", "WEBP", "AVIF") if size <= _LARGEST_AVIF else ("JPEG", "WEBP")
    encoding = choose_encoding(accept, available)
    if encoding is None:
        raise HTTPException(406, f"a thumbnail is {', '.join(MEDIA_TYPES[name] for name in available)}")
    found = find_content(service.store, photo_id)
    if found is None:
        raise HTTPException(404, f"no photo {photo_id}")
    headers = {
        "ETag": ThumbCache.etag(found.shown, size, encoding, region),
        "Cache-Control": _KEPT,
        "Vary": "Accept",
    }
    try:
        if _has(if_none_match, headers["ETag"]):
            with opened(found) as file:
                content = None if file is None else b""
            if content is not None:
                return Response(status_code=304, headers=headers)
        else:
            content = service.thumbs.get(found, size, encoding, region)
    except ThumbMakersBusyError as error:
        raise HTTPException(503, str(error), headers={"Retry-After": "5"}) from error
    except PhotoError as error:
        if error.stage == "read":
            raise HTTPException(404, f"photo {photo_id}: {error.reason}") from error
        raise
    if content is None:
        raise HTTPException(404, f"photo {photo_id}: its file is not where it was")
    return Response(content, media_type=MEDIA_TYPES[encoding], headers=headers)


def _has(if_none_match: str | None, etag: str) -> bool:
    """Return whether an If-None-Match header names an entity tag (weak comparison of RFC 9110, 13.1.2)."""
    if if_none_match is None:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag in tags


@router.get(
    "/photos/{photo_id}/image",
    responses={206: {"description": "A part of it."}, **responses(404, 416, 422)},
    response_class=Response,
)
def get_image(service: ServiceDep, photo_id: _PhotoId, request: Request) -> Response:
    """Return the photo itself, as its file is, where the service serves originals.

    A photo that would tell where a sensitive species is is not served, whatever the catalog knows of its place: its
    file may tell it in a way that only others read. `--exact-places` serves it.
    """
    _check_served(service, photo_id)
    found = find_content(service.store, photo_id)
    response = None if found is None else original_response(found, request.headers)
    if response is None:
        raise HTTPException(404, f"photo {photo_id}: its file is not where it was, or is no picture to show")
    return response


def _check_served(service: Service, photo_id: int) -> None:
    if not service.options.originals:
        raise HTTPException(404, "originals are not served (--originals serves them)")
    photo = next(iter(read_photo_rows(service, [photo_id])), None)
    if photo is None:
        raise HTTPException(404, f"no photo {photo_id}")
    if service.with_hidden_places([photo_id]):
        raise HTTPException(
            404, "its file may tell the exact place of a sensitive species (--exact-places serves it)"
        )
    if photo.image is None:
        raise HTTPException(404, f"{photo.format} files are not served")


@router.get("/taxa", response_model=Taxa, responses=responses(422))
def list_taxa(
    service: ServiceDep,
    q: Annotated[str, Query(max_length=100, description="What was typed of a name.")] = "",
    limit: Annotated[int, Query(ge=1, le=100, description="How many at most.")] = 20,
) -> Response:
    """Return taxa that what was typed may mean, the likeliest first."""
    return json_answer(Taxa(tuple(find_taxa(service.store, q, limit))))
