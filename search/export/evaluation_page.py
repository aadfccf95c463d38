"""A report as one web page: no script, no file beside it, nothing fetched."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from birdsearch.search.export.page import data_uri, render
from birdsearch.search.metrics.sampling import Estimate

if TYPE_CHECKING:
    from birdsearch.search.evaluation.report import Curve, Report, Table

__all__ = ["evaluation_page", "shown"]


def evaluation_page(report: Report, pictures: Sequence[bytes], dark: Sequence[bytes]) -> bytes:
    """Return a page with the tables, the curves, the notes and the provenance of a report.

    Args:
        report: What to show.
        pictures: A PNG for each curve, which the page holds as data.
        dark: The same, light on dark, for screens that are set to it.
    """
    return render(
        "evaluation.html",
        title=report.title,
        tables=[_table(table) for table in report.tables],
        figures=[
            _figure(curve, light, night)
            for curve, light, night in zip(report.curves, pictures, dark, strict=True)
        ],
        notes=report.notes,
        provenance=report.provenance,
    )


def shown(cell: Any) -> str:
    """Return a cell as text: counts with separators, numbers with three decimals, intervals in brackets.

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


def _table(table: Table) -> dict[str, object]:
    is_number = [
        any(_is_number(row[index]) for row in table.rows)
        and all(row[index] is None or _is_number(row[index]) for row in table.rows)
        for index in range(len(table.columns))
    ]
    return {
        "title": table.title,
        "note": table.note,
        "columns": [
            {"parts": _heading(title), "is_number": right}
            for title, right in zip(table.columns, is_number, strict=True)
        ],
        "rows": [
            [_cell(cell, right) for cell, right in zip(row, is_number, strict=True)] for row in table.rows
        ],
    }


def _heading(title: str) -> list[str]:
    """Return the parts of a title between which it may break: not after a hyphen, as in `top-1`."""
    return re.split(r"(\S*-\S*)", title)


def _cell(cell: Any, is_number: bool) -> dict[str, object]:
    text, interval = shown(cell), ""
    if isinstance(cell, Estimate) and "[" in text:
        text, interval = text.split(" ", 1)
    return {"text": text, "interval": interval, "is_number": is_number}


def _figure(curve: Curve, light: bytes, dark: bytes) -> dict[str, object]:
    named = ", ".join(series.name for series in curve.series if series.style not in ("bars", "reference"))
    # The size stands in a PNG's first chunk.
    width, height = (int.from_bytes(light[start : start + 4], "big") for start in (16, 20))
    return {
        "alt": f"{curve.title}: {curve.y_label} against {curve.x_label}" + (f" for {named}" if named else ""),
        "note": curve.note,
        "light": data_uri(light, "png"),
        "dark": data_uri(dark, "png"),
        "width": width,
        "height": height,
    }


def _is_number(cell: Any) -> bool:
    return isinstance(cell, int | float | Estimate | np.number) and not isinstance(cell, bool)
