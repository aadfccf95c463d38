"""A contact sheet as one web page: no script, no file beside it, nothing fetched."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from birdsearch.search.export.page import data_uri, whole_page
from birdsearch.search.export.sheet_photos import Pictures, Thumbnail, file_name, hit_note, shorten_middle
from birdsearch.search.query.hits import Hit, LabelEstimate, QueryResult

__all__ = ["html_page"]

_QUERY_SIDE = 560
_HIT_SIDE = 320
_NAME_LENGTH = 30

_STYLE = """
:root { color-scheme: light dark; --bg: #f4f5f7; --card: #fff; --well: #e9ecf0; --text: #1c2127;
  --soft: #5d6773; --line: #d9dee4; --accent: #1f6feb; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171b; --card: #1e2329; --well: #272d35;
  --text: #e8ebef; --soft: #9aa5b1; --line: #333b45; --accent: #6cb0ff; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 1.5rem clamp(1rem, 3vw, 2.5rem) 3rem; background: var(--bg); color: var(--text);
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.05rem; font-weight: 600; margin: 0 0 1.25rem; color: var(--soft); }
section { display: grid; grid-template-columns: minmax(240px, 320px) minmax(0, 1fr); gap: 2rem;
  padding: 1.75rem 0; border-top: 1px solid var(--line); }
aside { align-self: start; }
@media (min-width: 761px) { aside { position: sticky; top: 1.5rem; } }
@media (max-width: 760px) { section { grid-template-columns: minmax(0, 1fr); gap: 1.25rem; } }
h2 { font-size: 1.05rem; margin: .9rem 0 .1rem; overflow-wrap: anywhere; }
img { display: block; max-width: 100%; }
aside > img { width: 100%; height: auto; max-height: 26rem; object-fit: contain; object-position: left top;
  border-radius: 8px; }
.soft { color: var(--soft); font-size: .87rem; margin: 0; overflow-wrap: anywhere; }
dl { margin: 1rem 0 0; }
dl > div { display: grid; grid-template-columns: 1fr auto; column-gap: .75rem; margin-top: .55rem; }
dt { overflow-wrap: anywhere; }
dd { margin: 0; font-variant-numeric: tabular-nums; }
.bar { grid-column: 1 / -1; height: 8px; border-radius: 4px; overflow: hidden; background: var(--well); }
.bar i { display: block; height: 100%; border-radius: 4px; background: var(--accent); }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 1rem; align-content: start;
  grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); }
li { background: var(--card); border: 1px solid var(--line); border-radius: 8px; overflow: hidden; }
.well { position: relative; aspect-ratio: 1; background: var(--well); display: grid; place-items: center; }
.well img { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: contain; }
.none { color: var(--soft); font-size: .82rem; text-align: center; padding: 1rem; overflow-wrap: anywhere; }
aside .well { border-radius: 8px; }
.note { padding: .55rem .7rem .7rem; font-size: .87rem; line-height: 1.4; }
.head { display: flex; justify-content: space-between; font-variant-numeric: tabular-nums; }
.head b { font-weight: 650; }
.label { overflow-wrap: anywhere; }
"""


def html_page(results: Sequence[QueryResult]) -> str:
    """A page with a section for each query photo.

    Args:
        results: The answers.

    Returns:
        The page; thumbnails are in it as data, and every text from outside is escaped.
    """
    queries, hits = Pictures(_QUERY_SIDE), Pictures(_HIT_SIDE)
    title = "Similar photos" if len(results) == 1 else f"Similar photos to {len(results)} photos"
    sections = "\n".join(_section(result, queries, hits) for result in results)
    return whole_page(title, _STYLE, sections)


def _section(result: QueryResult, queries: Pictures, hits: Pictures) -> str:
    query = result.query
    name = file_name(query.path)
    picture = _picture(queries.query(query), f"Query photo {name}")
    facts = []
    if query.photo_id is not None:
        facts.append(f"photo #{query.photo_id} of the catalog")
    if query.box is not None:
        facts.append("asked about the marked region")
    notes = "".join(f'<p class="soft">{escape(text)}</p>' for text in (*facts, *result.warnings))
    labels = "".join(_label(label) for label in result.labels)
    found = "".join(_hit(hit, hits) for hit in result.hits)
    return (
        f'<section><aside>{picture}<h2 title="{escape(query.path)}">{escape(_short(name))}</h2>{notes}'
        + (f"<dl>{labels}</dl>" if labels else "")
        + "</aside>"
        + (f"<ol>{found}</ol>" if found else '<p class="soft">No similar photos were found.</p>')
        + "</section>"
    )


def _label(label: LabelEstimate) -> str:
    return (
        f"<div><dt>{escape(label.name)}</dt><dd>{label.probability:.1%}</dd>"
        f'<dd class="bar" aria-hidden="true"><i style="width:{label.probability:.2%}"></i></dd></div>'
    )


def _hit(hit: Hit, pictures: Pictures) -> str:
    name = file_name(hit.path)
    label, taken = hit_note(hit)
    alt = f"Hit {hit.rank}: {label or name}"
    picture = pictures.hit(hit)
    shown = (
        _picture(picture, alt)
        if picture.image is None
        else f'<div class="well">{_picture(picture, alt)}</div>'
    )
    lines = [f'<div class="label">{escape(label)}</div>'] if label else []
    if taken:
        lines.append(f'<p class="soft">{escape(taken)}</p>')
    lines.append(f'<p class="soft" title="{escape(hit.path)}">{escape(_short(name))}</p>')
    return (
        f'<li>{shown}<div class="note"><div class="head"><span>{hit.rank}</span>'
        f"<b>{hit.similarity:.3f}</b></div>{''.join(lines)}</div></li>"
    )


def _short(name: str) -> str:
    return shorten_middle(name, lambda text: len(text) <= _NAME_LENGTH)


def _picture(thumbnail: Thumbnail, alt: str) -> str:
    if thumbnail.image is None:
        return f'<div class="well"><p class="none">Not shown: {escape(thumbnail.problem)}</p></div>'
    width, height = thumbnail.image.size
    return (
        f'<img src="{_jpeg_uri(thumbnail.image)}" alt="{escape(alt)}" width="{width}" height="{height}" '
        'loading="lazy">'
    )


def _jpeg_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=84)
    return data_uri(buffer.getvalue(), "jpeg")
