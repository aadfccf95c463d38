"""A report as one web page: no script, no file beside it, nothing fetched."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from birdsearch.search.export.page import data_uri, whole_page
from birdsearch.search.metrics.sampling import Estimate

if TYPE_CHECKING:
    from birdsearch.search.evaluation.report import Curve, Report, Table

__all__ = ["html_page", "shown"]

_STYLE = """
:root { color-scheme: light dark; --bg: #f4f5f7; --card: #fff; --text: #1c2127; --soft: #5d6773;
  --line: #d9dee4; --faint: #eceff3; }
@media screen and (prefers-color-scheme: dark) { :root { --bg: #14171b; --card: #1e2329; --text: #e8ebef;
  --soft: #9aa5b1; --line: #333b45; --faint: #272d35; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 70rem; padding: 2rem clamp(1rem, 3vw, 2.5rem) 3rem; background: var(--bg);
  color: var(--text); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.55rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0 0 .6rem; overflow-wrap: anywhere; }
section { margin: 2rem 0 0; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: 8px; }
.wide { overflow-x: auto; width: fit-content; max-width: 100%; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .42rem .9rem; text-align: left; vertical-align: baseline; overflow-wrap: break-word; }
thead th { font-size: .87rem; font-weight: 600; color: var(--soft); border-bottom: 1px solid var(--line);
  vertical-align: bottom; }
tbody th { font-weight: 400; }
tbody tr + tr > * { border-top: 1px solid var(--faint); }
.n { text-align: right; white-space: nowrap; }
thead .n { white-space: normal; min-width: 5rem; }
th:first-child { position: sticky; left: 0; background: var(--card); }
.one { white-space: nowrap; }
.ci { color: var(--soft); font-size: .87em; }
.note, .soft { color: var(--soft); font-size: .87rem; margin: .5rem 0 0; max-width: 46rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1.25rem; }
figure { margin: 0; padding: .8rem; align-self: start; max-width: 38rem; }
figure img { display: block; width: 100%; height: auto; }
figcaption { color: var(--soft); font-size: .87rem; margin: .4rem .3rem .1rem; }
.notes p { margin: 0 0 .6rem; max-width: 46rem; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .2rem 1.2rem; margin: 0;
  font-size: .87rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
@media (max-width: 560px) { th, td { padding: .4rem .55rem; } dl { grid-template-columns: minmax(0, 1fr); }
  dd { margin-bottom: .4rem; } }
@media print { @page { margin: 16mm; } :root { --bg: #fff; }
  body { padding: 0; max-width: none; font-size: 10.5pt; } .card { border: 0; } .wide { overflow: visible; }
  table { font-size: 9.5pt; } .n { white-space: normal; } thead .n { min-width: 0; }
  .ci { white-space: nowrap; } th:first-child, td:first-child { padding-left: 0; } figure { padding: 0; }
  .plots { grid-template-columns: 1fr 1fr; } figure, tr, dl > * { break-inside: avoid; }
  h2 { break-after: avoid; } thead { display: table-header-group; } }
"""


def html_page(report: Report, pictures: Sequence[bytes], dark: Sequence[bytes]) -> str:
    """A page with the tables, the curves, the notes and the provenance of a report.

    Args:
        report: What to show.
        pictures: A PNG for each curve.
        dark: The same, light on dark, for screens that are set to it.

    Returns:
        The page; the pictures are in it as data, and every text is escaped.
    """
    parts = [_table(table) for table in report.tables]
    if report.curves:
        figures = "\n".join(
            _figure(curve, light, night)
            for curve, light, night in zip(report.curves, pictures, dark, strict=True)
        )
        parts.append(f'<section class="plots">\n{figures}\n</section>')
    if report.notes:
        notes = "".join(f"<p>{escape(note)}</p>" for note in report.notes)
        parts.append(f'<section class="notes"><h2>Notes</h2>{notes}</section>')
    if report.provenance:
        facts = "".join(
            f"<dt>{escape(key)}</dt><dd>{escape(str(value))}</dd>" for key, value in report.provenance.items()
        )
        parts.append(f"<section><h2>Provenance</h2><dl>{facts}</dl></section>")
    body = "\n".join(parts)
    return whole_page(report.title, _STYLE, body)


def shown(cell: Any) -> str:
    """A cell as text: counts with separators, numbers with three decimals, intervals in brackets.

    Args:
        cell: A text, a number, an estimate, or None.

    Returns:
        Such as `1,500`, `0.871`, `0.871 [0.852, 0.889]`; a dash for None and what is not finite. A small
        number that is not 0 keeps two significant digits instead of becoming 0.000.
    """
    if isinstance(cell, Estimate):
        if not (math.isfinite(cell.low) and math.isfinite(cell.high)):
            return shown(cell.value)
        return f"{shown(cell.value)} [{shown(cell.low)}, {shown(cell.high)}]"
    if isinstance(cell, np.generic):
        cell = cell.item()
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}".replace("-", "−")
    if isinstance(cell, float) and math.isfinite(cell):
        size = abs(cell)
        text = f"{cell:.2g}" if 0 < size < 0.0005 else f"{cell:,.1f}" if size >= 1000 else f"{cell:.3f}"
        return text.replace("-", "−")
    return cell if isinstance(cell, str) else "–"


def _table(table: Table) -> str:
    is_number = [
        any(_is_number(row[place]) for row in table.rows)
        and all(row[place] is None or _is_number(row[place]) for row in table.rows)
        for place in range(len(table.columns))
    ]
    head = "".join(
        f'<th scope="col"{_side(right)}>{_heading(title)}</th>'
        for title, right in zip(table.columns, is_number, strict=True)
    )
    rows = "\n".join(f"<tr>{_row(row, is_number)}</tr>" for row in table.rows)
    note = f'<p class="note">{escape(table.note)}</p>' if table.note else ""
    empty = "" if table.rows else '<p class="note">No rows.</p>'
    return (
        f'<section><h2>{escape(table.title)}</h2><div class="wide card"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody></table></div>{empty}{note}</section>"
    )


def _heading(title: str) -> str:
    """A column's title that breaks between words only, not after a hyphen as in `top-1`."""
    return re.sub(r"(\S*-\S*)", r'<span class="one">\1</span>', escape(title))


def _row(row: Sequence[Any], is_number: Sequence[bool]) -> str:
    cells = []
    for place, (cell, right) in enumerate(zip(row, is_number, strict=True)):
        text = escape(shown(cell))
        if isinstance(cell, Estimate) and "[" in text:
            value, interval = text.split(" ", 1)
            text = f'{value} <span class="ci">{interval}</span>'
        if place == 0 and not right:
            cells.append(f'<th scope="row">{text}</th>')
        else:
            cells.append(f"<td{_side(right)}>{text}</td>")
    return "".join(cells)


def _figure(curve: Curve, light: bytes, dark: bytes) -> str:
    named = ", ".join(series.name for series in curve.series if series.style not in ("bars", "reference"))
    alt = f"{curve.title}: {curve.y_label} against {curve.x_label}" + (f" for {named}" if named else "")
    caption = f"<figcaption>{escape(curve.note)}</figcaption>" if curve.note else ""
    width, height = (int.from_bytes(light[place : place + 4], "big") for place in (16, 20))
    return (
        f'<figure class="card"><picture><source media="screen and (prefers-color-scheme: dark)" '
        f'srcset="{data_uri(dark, "png")}"><img src="{data_uri(light, "png")}" alt="{escape(alt)}" width="{width}" '
        f'height="{height}"></picture>{caption}</figure>'
    )


def _side(right: bool) -> str:
    return ' class="n"' if right else ""


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | Estimate | np.number) and not isinstance(cell, bool)
