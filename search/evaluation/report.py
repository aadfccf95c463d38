"""The report of an evaluation: tables and curves, as records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError
from birdsearch.search.metrics.calibration import CoverageRisk, Reliability
from birdsearch.search.metrics.roc import RocCurve
from birdsearch.search.metrics.sampling import Estimate

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
    "reliability_plot",
    "roc_plot",
]

Numbers: TypeAlias = Sequence[float] | NDArray[Any]
Cell: TypeAlias = str | int | float | bool | Estimate | None
Style = Literal["line", "points", "steps", "bars", "reference"]

# A curve of more points than this looks the same, and makes the files large.
_POINTS = 500


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
    """The report of an evaluation.

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


def reliability_plot(title: str, found: Mapping[str, Reliability], note: str = "") -> Curve:
    """Plot accuracy against confidence with the diagonal, and how many answers each bin holds.

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
    """Plot the share of wrong answers against the share of answers given; at most 500 points a line.

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
    """Plot true against false positive rate with the diagonal of chance; at most 500 points a line.

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
    """Plot estimates with their intervals as bands, such as accuracy by the number of shots.

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
    """Return evenly spread positions, the first and the last among them."""
    if count <= _POINTS:
        return np.arange(count)
    return np.unique(np.rint(np.linspace(0, count - 1, _POINTS)).astype(np.int64))
