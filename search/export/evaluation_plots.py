"""Curves of a report as pictures, drawn by matplotlib."""

from __future__ import annotations

import io
import textwrap
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import BirdsearchError

if TYPE_CHECKING:
    from birdsearch.search.evaluation.report import Curve, Series

__all__ = ["draw_curve"]

# Inches.
_WIDTH, _HEIGHT, _BARS_HEIGHT, _PAD = 5.0, 3.7, 0.8, 0.07
_DOTS_PER_INCH = 200
_TITLE_LENGTH = 56
_NAME_LENGTH = 18
# Letters that fit into a line of the legend, and how many of them the sign beside a name takes.
_LEGEND_LENGTH, _SIGN_LENGTH = 68, 8
# Share of the height that two labels at the ends of lines must be apart.
_APART = 0.065
# Distinct x values that each get a tick of their own on a logarithmic axis.
_TICKS = 10


@dataclass(frozen=True, slots=True)
class _Look:
    """Colours of a plot.

    The lines' are those of Okabe and Ito ("Color Universal Design", 2008), which people with any common
    colour blindness can tell apart, without the ones too faint for the background.
    """

    paper: str
    text: str
    soft: str
    grid: str
    lines: tuple[str, ...]


_LIGHT = _Look(
    paper="#ffffff",
    text="#1c2127",
    soft="#5d6773",
    grid="#e3e7ec",
    lines=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#1c2127"),
)
_DARK = _Look(
    paper="#1e2329",
    text="#e8ebef",
    soft="#9aa5b1",
    grid="#333b45",
    lines=("#56b4e9", "#e69f00", "#2fc79a", "#e79ac6", "#f0e442", "#f2854a", "#e8ebef"),
)
# A second sign beside the colour, for paper without colours; used up after the colours.
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (6, 1.5, 1.5, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def draw_curve(curve: Curve, *, is_dark: bool = False) -> bytes:
    """Draw a curve as a PNG, 1000 pixels wide.

    Lines are named at their ends where there is room for that, else in a legend. The same curve and the same
    matplotlib give the same bytes.

    Args:
        curve: What to draw.
        is_dark: Light on dark.

    Returns:
        The file's content, without metadata.

    Raises:
        BirdsearchError: matplotlib is not installed.
    """
    try:
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.layout_engine import ConstrainedLayoutEngine
    except ImportError as error:
        raise BirdsearchError(
            'drawing curves needs matplotlib, which is not installed: pip install "birdsearch[plots]"'
        ) from error
    curve = _drawable(curve)
    look = _DARK if is_dark else _LIGHT
    # The user's own settings must not change the picture, and text from outside is no formula.
    style = ["default", _settings(look)]
    # What the font lacks is drawn as a box, which is enough said.
    with matplotlib.style.context(style), warnings.catch_warnings(action="ignore", category=UserWarning):
        lines = [series for series in curve.series if series.style != "bars"]
        bars = [series for series in curve.series if series.style == "bars"]
        height = _HEIGHT + (_BARS_HEIGHT if bars else 0.0)
        layout = ConstrainedLayoutEngine(w_pad=_PAD, h_pad=_PAD)
        figure = Figure(figsize=(_WIDTH, height), layout=layout)
        FigureCanvasAgg(figure)
        ratios = [_HEIGHT - 1.0, _BARS_HEIGHT] if bars else [1.0]
        panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)[:, 0]
        title = textwrap.fill(curve.title, _TITLE_LENGTH)
        figure.suptitle(title, x=0.015, ha="left", fontsize=11, fontweight="bold", color=look.text)
        _draw_lines(panels[0], curve, lines, look)
        if bars:
            _draw_bars(panels[1], bars, look)
            panels[1].set_ylabel(curve.bars_label)
        _set_x_axis(panels[-1], curve)
        _name_lines(panels[0], lines, look)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def _drawable(curve: Curve) -> Curve:
    """Escape lone surrogates of a curve, as in paths that are not UTF-8: the font engine refuses them."""

    def clean(text: str) -> str:
        return text.encode("utf-8", "backslashreplace").decode()

    return replace(
        curve,
        title=clean(curve.title),
        x_label=clean(curve.x_label),
        y_label=clean(curve.y_label),
        bars_label=clean(curve.bars_label),
        series=tuple(replace(series, name=clean(series.name)) for series in curve.series),
    )


def _settings(look: _Look) -> dict[str, Any]:
    return {
        "text.parse_math": False,
        "text.color": look.text,
        "font.size": 9.5,
        "figure.facecolor": look.paper,
        "savefig.facecolor": look.paper,
        "axes.facecolor": look.paper,
        "axes.edgecolor": look.soft,
        "axes.labelcolor": look.text,
        "axes.linewidth": 0.8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": look.grid,
        "grid.linewidth": 0.8,
        "xtick.color": look.soft,
        "ytick.color": look.soft,
        "xtick.labelcolor": look.text,
        "ytick.labelcolor": look.text,
        "legend.frameon": False,
        "lines.linewidth": 1.9,
        "lines.markersize": 4.5,
        "lines.solid_capstyle": "round",
    }


def _draw_lines(axes: Any, curve: Curve, lines: list[Series], look: _Look) -> None:
    index = 0
    for series in lines:
        x, y = _array(series.x), _array(series.y)
        if series.style == "reference":
            axes.plot(x, y, color=look.soft, linewidth=1.1, linestyle=(0, (4, 3)), zorder=1.5)
            continue
        colour, dash, marker = _signs(index, look)
        index += 1
        if series.low is not None and series.high is not None:
            step = "post" if series.style == "steps" else None
            axes.fill_between(
                x, _array(series.low), _array(series.high), step=step, color=colour, alpha=0.16, linewidth=0
            )
        axes.plot(
            x,
            y,
            color=colour,
            linestyle=dash,
            drawstyle="steps-post" if series.style == "steps" else "default",
            marker=marker if series.style == "points" else None,
            # At the edge of the range, a line or a marker is shown whole.
            clip_on=curve.y_range is None or not _is_inside(y, curve.y_range),
        )
    if not any(np.isfinite(_array(series.y)).any() for series in lines):
        axes.text(0.5, 0.5, "nothing to show", transform=axes.transAxes, ha="center", color=look.soft)
    axes.set_ylabel(curve.y_label)
    if curve.y_range is not None:
        axes.set_ylim(*curve.y_range)


def _draw_bars(axes: Any, bars: list[Series], look: _Look) -> None:
    from matplotlib.ticker import MaxNLocator

    centres = np.unique(np.concatenate([_array(series.x) for series in bars]))
    width = 0.86 * float(np.diff(centres).min()) / len(bars) if len(centres) > 1 else 0.05
    for index, series in enumerate(bars):
        shift = (index - (len(bars) - 1) / 2) * width
        colour = look.soft if len(bars) == 1 else _signs(index, look)[0]
        axes.bar(_array(series.x) + shift, _array(series.y), width=width, color=colour, linewidth=0)
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    axes.grid(visible=False, axis="x")


def _set_x_axis(axes: Any, curve: Curve) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axes.set_xlabel(curve.x_label)
    if curve.x_range is not None:
        axes.set_xlim(*curve.x_range)
    if curve.x_scale == "log":
        axes.set_xscale("log")
        values = np.unique(np.concatenate([[1.0], *(_array(series.x) for series in curve.series)]))
        if len(values) <= _TICKS:
            axes.xaxis.set_major_locator(FixedLocator(values.tolist()))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))


def _name_lines(axes: Any, lines: list[Series], look: _Look) -> None:
    if len(lines) < 2:
        return
    ends = [_end(series) for series in lines]
    low, high = axes.get_ylim()
    heights = sorted((y - low) / (high - low) for _, y in ends)
    is_roomy = (
        all(series.style != "reference" and len(series.name) <= _NAME_LENGTH for series in lines)
        and len({x for x, _ in ends}) == 1
        and bool(np.isfinite(heights).all())
        and all(above - below >= _APART for below, above in pairwise(heights))
    )
    if is_roomy:
        for index, (series, end) in enumerate(zip(lines, ends, strict=True)):
            axes.annotate(
                series.name,
                end,
                xytext=(7, 0),
                textcoords="offset points",
                va="center",
                color=_signs(index, look)[0],
                annotation_clip=False,
            )
        return
    drawn = axes.get_lines()
    legend = axes.legend(
        drawn,
        # matplotlib leaves out names with a leading underscore, so the names come afterwards.
        ["name"] * len(drawn),
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=_columns([series.name for series in lines]),
        borderaxespad=0.2,
        handlelength=2.2,
        handletextpad=0.6,
        columnspacing=1.4,
        fontsize=9,
    )
    for text, series in zip(legend.get_texts(), lines, strict=True):
        text.set_text(series.name)


def _columns(names: list[str]) -> int:
    """Return how many columns a legend has room for; names go down the columns."""
    lengths = [len(name) + _SIGN_LENGTH for name in names]
    for columns in range(len(names), 1, -1):
        if sum(int(column.max()) for column in np.array_split(lengths, columns)) <= _LEGEND_LENGTH:
            return columns
    return 1


def _end(series: Series) -> tuple[float, float]:
    x, y = _array(series.x), _array(series.y)
    shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    return (float(x[shown[-1]]), float(y[shown[-1]])) if len(shown) else (float("nan"), float("nan"))


def _signs(index: int, look: _Look) -> tuple[str, Any, str]:
    return (
        look.lines[index % len(look.lines)],
        _DASHES[index // len(look.lines) % len(_DASHES)],
        _MARKERS[index % len(_MARKERS)],
    )


def _is_inside(values: NDArray[np.float64], limits: tuple[float, float]) -> bool:
    finite = values[np.isfinite(values)]
    return not len(finite) or (float(finite.min()) >= limits[0] and float(finite.max()) <= limits[1])


def _array(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)
