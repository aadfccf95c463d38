"""Pictures of a cluster report: the map as PNG, and the colours that it shares with the page."""

from __future__ import annotations

import colorsys
import io
import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import BirdsearchError

__all__ = ["OUTLIER_COLOUR", "colours", "draw_map"]

OUTLIER_COLOUR = "#9aa5b1"

# Okabe and Ito, "Color Universal Design", 2008, less what is faint on white or on black.
_FEW = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
_TURN = 0.618033988749895
_LIGHTNESS = (0.47, 0.6, 0.4)
# Clusters with more points are numbered on the map, as long as they are not so many.
_NUMBERED, _LEAST_NUMBERED = 80, 3
_INCHES, _DOTS_PER_INCH = 9.0, 160


def colours(count: int) -> list[str]:
    """Return so many colours, such as `#0072b2`, that show on white and on black; few are far apart, many less so.

    Args:
        count: How many.
    """
    if count <= len(_FEW):
        return list(_FEW[:count])
    found = []
    for index in range(count):
        hue = (0.58 + index * _TURN) % 1.0
        # Yellow and green look lighter than they are.
        lightness = _LIGHTNESS[index % len(_LIGHTNESS)] * (0.8 if 0.12 < hue < 0.5 else 1.0)
        rgb = colorsys.hls_to_rgb(hue, lightness, 0.62)
        found.append("#" + "".join(f"{round(255 * value):02x}" for value in rgb))
    return found


def draw_map(
    points: NDArray[np.float32],
    groups: NDArray[np.int64],
    names: Sequence[str],
    title: str,
) -> bytes:
    """Draw a scatter plot of clusters as a PNG.

    Args:
        points: (M, 2) float32 within 0..1.
        groups: (M,) int64, index in `names` of each point's cluster; -1 for outliers.
        names: What is written on each cluster.
        title: Above the plot.

    Returns:
        The file's content, without metadata.

    Raises:
        BirdsearchError: matplotlib is not installed.
    """
    try:
        import matplotlib.style
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patheffects import withStroke
    except ImportError as error:
        raise BirdsearchError(
            'drawing a map needs matplotlib, which is not installed: pip install "birdsearch[plots]"'
        ) from error
    size = float(np.clip(9000 / max(len(points), 1), 2.0, 22.0))
    with (
        matplotlib.style.context(["default", {"text.parse_math": False, "font.size": 9.0}]),
        warnings.catch_warnings(action="ignore", category=UserWarning),
    ):
        figure = Figure(figsize=(_INCHES, _INCHES + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set_aspect("equal")
        axes.set_xlim(-0.03, 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(_clean(title), loc="left", fontsize=11, fontweight="bold", color="#1c2127")
        of_none = groups < 0
        x, y = points.T
        axes.scatter(x[of_none], y[of_none], s=size * 0.6, c=OUTLIER_COLOUR, alpha=0.45, linewidths=0)
        shade = np.array([*colours(len(names)), OUTLIER_COLOUR])[groups[~of_none]]
        axes.scatter(x[~of_none], y[~of_none], s=size, c=shade, alpha=0.8, linewidths=0)
        halo = [withStroke(linewidth=2.6, foreground="#ffffff")]
        sizes = np.bincount(groups[~of_none], minlength=len(names))
        largest = np.argsort(-sizes, kind="stable")[:_NUMBERED]
        for index in largest[sizes[largest] >= _LEAST_NUMBERED].tolist():
            axes.annotate(
                _clean(names[index]),
                _middle(points[groups == index]),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                va="bottom",
                color="#1c2127",
                path_effects=halo,
                fontweight="bold",
                annotation_clip=False,
            )
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=_DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def _middle(points: NDArray[np.float32]) -> tuple[float, float]:
    """Return the point nearest to the median: on the cluster even if that lies in two parts."""
    apart = np.abs(points - np.median(points, axis=0)).sum(axis=1)
    x, y = points[int(apart.argmin())].tolist()
    return x, y


def _clean(text: str) -> str:
    """Return text that the font engine takes: lone surrogates, as in paths that are not UTF-8, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()
