"""A contact sheet of answers as one web page: no script, no file beside it, nothing fetched."""

from __future__ import annotations

from collections.abc import Sequence

from birdsearch.search.export.page import jpeg_uri, render
from birdsearch.search.export.sheet_photos import Pictures, Thumbnail, file_name, hit_note, shorten_middle
from birdsearch.search.query.hits import Hit, QueryResult

__all__ = ["sheet_page"]

_QUERY_SIDE = 560
_HIT_SIDE = 320
_NAME_LENGTH = 30


def sheet_page(results: Sequence[QueryResult]) -> bytes:
    """Return a page with a section for each query photo; thumbnails are in it as data."""
    queries, hits = Pictures(_QUERY_SIDE), Pictures(_HIT_SIDE)
    title = "Similar photos" if len(results) == 1 else f"Similar photos to {len(results)} photos"
    return render("sheet.html", title=title, queries=[_query(result, queries, hits) for result in results])


def _query(result: QueryResult, queries: Pictures, hits: Pictures) -> dict[str, object]:
    query = result.query
    notes = []
    if query.photo_id is not None:
        notes.append(f"photo #{query.photo_id} of the catalog")
    if query.box is not None:
        notes.append("asked about the marked region")
    return {
        **_names(query.path),
        "picture": _picture(queries.query(query)),
        "notes": [*notes, *result.warnings],
        "labels": result.labels,
        "hits": [_hit(hit, hits) for hit in result.hits],
    }


def _hit(hit: Hit, pictures: Pictures) -> dict[str, object]:
    label, taken = hit_note(hit)
    return {
        **_names(hit.path),
        "picture": _picture(pictures.hit(hit)),
        "rank": hit.rank,
        "similarity": hit.similarity,
        "label": label,
        "taken": taken,
    }


def _names(path: str) -> dict[str, object]:
    name = file_name(path)
    short = shorten_middle(name, lambda text: len(text) <= _NAME_LENGTH)
    return {"path": path, "name": name, "short_name": short}


def _picture(thumbnail: Thumbnail) -> dict[str, object]:
    if thumbnail.image is None:
        return {"uri": None, "problem": thumbnail.problem}
    width, height = thumbnail.image.size
    return {"uri": jpeg_uri(thumbnail.image), "width": width, "height": height}
