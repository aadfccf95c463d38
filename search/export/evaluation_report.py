"""Write the report of an evaluation: PNG curves, JSON and one web page."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np

from birdsearch.errors import InvalidInputError
from birdsearch.files import write_whole
from birdsearch.search.evaluation.report import Numbers, Report
from birdsearch.search.export.evaluation_page import evaluation_page
from birdsearch.search.export.evaluation_plots import draw_curve
from birdsearch.search.metrics.sampling import Estimate

__all__ = ["file_names", "report_dict", "write_report"]

_NAME_LENGTH = 60


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write a report: a PNG for each curve, `report.json` with all numbers, and `report.html` to look at.

    The page needs nothing else and fetches nothing. Everything is made before anything is written, and each
    file appears whole or not at all. Files of the same names are replaced; others are left alone.

    Args:
        report: What to write. In JSON, numbers that are not finite are null.
        folder: Where; made if it does not exist.

    Returns:
        The files written: the PNGs in the order of the curves, then `report.json`, then `report.html`.

    Raises:
        BirdsearchError: There are curves and matplotlib is not installed.
        InvalidInputError: The folder or a file in it cannot be written.
    """
    names = file_names(report)
    pictures = [draw_curve(curve) for curve in report.curves]
    dark = [draw_curve(curve, is_dark=True) for curve in report.curves]
    contents = dict(zip(names, pictures, strict=True))
    contents["report.json"] = _utf8(
        json.dumps(report_dict(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    )
    contents["report.html"] = evaluation_page(report, pictures, dark)
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise InvalidInputError(
            f"{folder}: the report cannot be written ({error.strerror or error}); name a folder that you may "
            "write to"
        ) from error
    return [folder / name for name in contents]


def file_names(report: Report) -> list[str]:
    """Return names of the curves' files, from their titles; equal ones are numbered in the order of the curves."""
    names: list[str] = []
    for curve in report.curves:
        plain = unicodedata.normalize("NFKD", curve.title).encode("ascii", "ignore").decode().lower()
        stem = re.sub(r"[^a-z0-9]+", "-", plain)[:_NAME_LENGTH].strip("-") or "curve"
        name, number = f"{stem}.png", 1
        while name in names:
            number += 1
            name = f"{stem}-{number}.png"
        names.append(name)
    return names


def report_dict(report: Report) -> dict[str, object]:
    """Return the report as JSON types, every number as it is; those that are not finite are None."""
    return {
        "title": report.title,
        "notes": list(report.notes),
        "tables": [
            {
                "title": table.title,
                "note": table.note,
                "columns": list(table.columns),
                "rows": [[_plain(cell) for cell in row] for row in table.rows],
            }
            for table in report.tables
        ],
        "curves": [
            {
                "title": curve.title,
                "note": curve.note,
                "file": name,
                "x_label": curve.x_label,
                "y_label": curve.y_label,
                "series": [
                    {
                        "name": series.name,
                        "style": series.style,
                        "x": _numbers(series.x),
                        "y": _numbers(series.y),
                        "low": _numbers(series.low),
                        "high": _numbers(series.high),
                    }
                    for series in curve.series
                ],
            }
            for curve, name in zip(report.curves, file_names(report), strict=True)
        ],
        "provenance": {key: str(value) for key, value in report.provenance.items()},
    }


def _plain(cell: Any) -> object:
    if isinstance(cell, Estimate):
        return {"value": _plain(cell.value), "low": _plain(cell.low), "high": _plain(cell.high)}
    if isinstance(cell, np.generic):
        cell = cell.item()
    return None if isinstance(cell, float) and not math.isfinite(cell) else cell


def _numbers(values: Numbers | None) -> list[object] | None:
    return None if values is None else [_plain(value) for value in values]


def _utf8(text: str) -> bytes:
    # A path that is not UTF-8 has lone surrogates; escaped like this, they are still valid JSON.
    return text.encode("utf-8", "backslashreplace")
