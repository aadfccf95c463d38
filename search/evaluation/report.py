"""Reports of an evaluation: tables and curves, written for people and for programs."""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.indexer.files import write_whole
from birdsearch.search.evaluation.metrics import CoverageRisk, Estimate, Reliability, RocCurve

__all__ = [
    "Cell",
    "Curve",
    "Numbers",
    "Report",
    "Series",
    "Style",
    "Table",
    "coverage_risk_plot",
    "estimates_plot",
    "file_names",
    "reliability_plot",
    "report_dict",
    "roc_plot",
    "write_report",
]

Numbers: TypeAlias = Sequence[float] | NDArray[Any]
Cell: TypeAlias = str | int | float | bool | Estimate | None
Style = Literal["line", "points", "steps", "bars", "reference"]

# A curve of more points than this looks the same, and makes the files large.
_POINTS = 500
_NAME_LENGTH = 60


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """One line of a plot.

    Attributes:
        name: What it is called in the legend.
        x: (N,) numbers. A point that is not finite interrupts the line.
        y: (N,) numbers.
        low: (N,) lower ends of a band around the line, or None.
        high: (N,) upper ends, or None.
        style: `line`; `points`, joined by a line; `steps`, which keep a value up to the next x; `bars`, drawn
            in a panel of their own below the others; `reference`, a thin dashed line to compare with.
    """

    name: str
    x: Numbers
    y: Numbers
    low: Numbers | None = None
    high: Numbers | None = None
    style: Style = "line"

    def __post_init__(self) -> None:
        lengths = {len(values) for values in (self.x, self.y, self.low, self.high) if values is not None}
        if len(lengths) > 1 or (self.low is None) != (self.high is None):
            raise InvalidInputError(
                f"series {self.name!r}: x, y, low and high must be equally long, low and high both given or "
                "neither"
            )
        if self.style not in get_args(Style):
            raise InvalidInputError(f"series {self.name!r}: no such style as {self.style!r}")


@dataclass(frozen=True, slots=True)
class Curve:
    """One plot.

    Attributes:
        title: What it shows; the file is named after it.
        x_label: What x is, with its unit.
        y_label: What y is.
        series: What is drawn, in the order of the legend.
        x_range: Least and greatest x shown, or None to fit the series.
        y_range: Least and greatest y shown, or None.
        x_scale: `linear` or `log`.
        bars_label: What the height of `bars` is.
        note: What to know when reading it.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    x_scale: Literal["linear", "log"] = "linear"
    bars_label: str = "photos"
    note: str = ""

    def __post_init__(self) -> None:
        if self.x_scale == "log" and any(np.any(np.asarray(series.x) <= 0) for series in self.series):
            raise InvalidInputError(f"curve {self.title!r}: x must be above 0 on a logarithmic scale")


@dataclass(frozen=True, slots=True)
class Table:
    """One table.

    Attributes:
        title: What it shows.
        columns: Their titles.
        rows: A cell for each column; None and NaN are shown as a dash.
        note: What to know when reading it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise InvalidInputError(
                    f"table {self.title!r}: a row has {len(row)} cells for {len(self.columns)} columns"
                )


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation found.

    Attributes:
        title: Of the page.
        provenance: What was run on what: versions, hashes, seeds, counts.
        tables: In order.
        curves: In order.
        notes: Paragraphs for a person, such as what the numbers do not show.
    """

    title: str
    provenance: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[Table, ...] = ()
    curves: tuple[Curve, ...] = ()
    notes: tuple[str, ...] = ()


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
    from birdsearch.search.evaluation.report_html import html_page
    from birdsearch.search.evaluation.report_plots import draw_curve

    names = file_names(report)
    pictures = [draw_curve(curve) for curve in report.curves]
    dark = [draw_curve(curve, is_dark=True) for curve in report.curves]
    contents = dict(zip(names, pictures, strict=True))
    contents["report.json"] = _utf8(
        json.dumps(report_dict(report), ensure_ascii=False, indent=1, allow_nan=False) + "\n"
    )
    contents["report.html"] = _utf8(html_page(report, pictures, dark))
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
    """Names of the curves' files, from their titles; equal ones are numbered in the order of the curves."""
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


def reliability_plot(title: str, found: Mapping[str, Reliability], note: str = "") -> Curve:
    """Accuracy against confidence with the diagonal, and how many answers each bin holds.

    Args:
        title: Of the plot.
        found: Reliability by name, such as before and after calibration.
        note: What to know when reading it.

    Returns:
        The plot; empty bins have no point.
    """
    lines, bars = [], []
    for name, bins in found.items():
        held = bins.counts > 0
        lines.append(Series(name, bins.confidence[held], bins.accuracy[held], style="points"))
        centres = (bins.edges[:-1] + bins.edges[1:]) / 2
        bars.append(Series(name, centres, bins.counts, style="bars"))
    perfect = Series("perfect calibration", (0.0, 1.0), (0.0, 1.0), style="reference")
    return Curve(
        title,
        "confidence",
        "share that is right",
        (*lines, perfect, *bars),
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        note=note,
    )


def coverage_risk_plot(title: str, found: Mapping[str, CoverageRisk], note: str = "") -> Curve:
    """Share of wrong answers against the share of answers given; at most 500 points a line.

    Args:
        title: Of the plot.
        found: Curves by name.
        note: What to know when reading it.

    Returns:
        The plot.
    """
    series, top = [], 0.0
    for name, curve in found.items():
        shown = _thinned(len(curve.coverage))
        series.append(Series(name, curve.coverage[shown], curve.risk[shown]))
        top = max(top, 1.05 * float(curve.risk.max(initial=0.0)))
    return Curve(
        title,
        "share of photos answered",
        "share of answers wrong",
        tuple(series),
        x_range=(0.0, 1.0),
        y_range=(0.0, top or 1.0),
        note=note,
    )


def roc_plot(title: str, found: Mapping[str, RocCurve], note: str = "") -> Curve:
    """True against false positive rate with the diagonal of chance; at most 500 points a line.

    Args:
        title: Of the plot.
        found: Curves by name.
        note: What to know when reading it.

    Returns:
        The plot.
    """
    series = []
    for name, curve in found.items():
        shown = _thinned(len(curve.thresholds))
        series.append(Series(name, curve.false_positive_rate[shown], curve.true_positive_rate[shown]))
    series.append(Series("chance", (0.0, 1.0), (0.0, 1.0), style="reference"))
    return Curve(
        title,
        "false positive rate",
        "true positive rate",
        tuple(series),
        x_range=(0.0, 1.0),
        y_range=(0.0, 1.0),
        note=note,
    )


def estimates_plot(
    title: str,
    x_label: str,
    y_label: str,
    found: Mapping[str, Mapping[int, Estimate] | Mapping[float, Estimate]],
    x_scale: Literal["linear", "log"] = "log",
    note: str = "",
) -> Curve:
    """Estimates with their intervals as bands, such as accuracy by the number of shots.

    Args:
        title: Of the plot.
        x_label: What x is.
        y_label: What the estimates are.
        found: For each name, the estimate at each x.
        x_scale: `log` for shots of 1, 2, 5, 10.
        note: What to know when reading it.

    Returns:
        The plot.
    """
    series = []
    for name, estimates in found.items():
        at = sorted(estimates.items(), key=lambda item: item[0])
        series.append(
            Series(
                name,
                [float(x) for x, _ in at],
                [one.value for _, one in at],
                [one.low for _, one in at],
                [one.high for _, one in at],
                style="points",
            )
        )
    return Curve(title, x_label, y_label, tuple(series), x_scale=x_scale, note=note)


def _thinned(count: int) -> NDArray[np.int64]:
    """Evenly spread places, the first and the last among them."""
    if count <= _POINTS:
        return np.arange(count)
    return np.unique(np.rint(np.linspace(0, count - 1, _POINTS)).astype(np.int64))


def report_dict(report: Report) -> dict[str, object]:
    """The report as JSON types, every number as it is; those that are not finite are None."""
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
