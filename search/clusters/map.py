"""A map of embeddings: their layout in the plane.

PaCMAP where it is installed, else the two main axes. UMAP was tried and left out: on 2,964 real photos it took 15
times as long on one thread for a map that keeps neighbours no better to speak of (1-NN species accuracy on the map
0.90 against 0.88), and needs two packages more.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from birdsearch.errors import InvalidInputError

__all__ = ["EmbeddingMap", "main_axes", "map_embeddings"]

_MOST = 100_000
# PaCMAP takes 10 neighbours, 5 mid-near and 20 far points of each.
_LEAST = 50


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingMap:
    """Points in the plane.

    Attributes:
        rows: (M,) int64, which of the vectors are on the map, rising.
        points: (M, 2) float32 within 0..1; one scale for both axes. Near points are alike; directions and large
            distances mean nothing.
        method: `pacmap` or `pca`.
        note: What a reader should know of how it was made.
    """

    rows: NDArray[np.int64]
    points: NDArray[np.float32]
    method: str
    note: str


def map_embeddings(
    unit: NDArray[np.float32], *, most: int = _MOST, seed: int = 0, method: str = "auto"
) -> EmbeddingMap:
    """Lay vectors out in the plane.

    The same vectors in the same order, seed and versions give the same map, whatever the number of threads.

    Source: Y. Wang, H. Huang, C. Rudin, Y. Shaposhnik, "Understanding How Dimension Reduction Tools Work", JMLR 22
    (2021) 201 (PaCMAP).

    Args:
        unit: (N, C) float32, unit-norm.
        most: Of more vectors than these, a sample is drawn.
        seed: Of the sample and of the layout.
        method: `auto`, `pacmap` or `pca`.

    Returns:
        The map.

    Raises:
        InvalidInputError: There is no such method, it is not installed, or `most` is below 1.
    """
    if method not in ("auto", "pacmap", "pca") or most < 1:
        raise InvalidInputError(
            f"the method is {method!r}, for at most {most} vectors; auto, pacmap or pca, 1 or more"
        )
    is_installed = importlib.util.find_spec("pacmap") is not None
    if method == "pacmap" and not is_installed:
        raise InvalidInputError("pacmap is not installed: pip install pacmap")
    rows = np.arange(len(unit), dtype=np.int64)
    notes: list[str] = []
    if len(unit) > most:
        rows = np.sort(np.random.default_rng(seed).choice(len(unit), most, replace=False))
        notes.append(f"a sample of {most:,} of {len(unit):,}")
    chosen = np.ascontiguousarray(unit[rows], dtype=np.float32)
    if len(chosen) < _LEAST or method == "pca" or not is_installed:
        used, points = "pca", main_axes(chosen)
        notes.insert(0, "the two main axes (PCA)")
        if not is_installed:
            notes.append("pip install pacmap for a map that keeps neighbours together")
    else:
        used, points = "pacmap", _pacmap(chosen, seed)
        notes.insert(0, "PaCMAP")
    return EmbeddingMap(rows, _scaled(points), used, "; ".join(notes))


def main_axes(unit: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return vectors on their two main axes, (N, 2); the sign of an axis is that of its largest component.

    Args:
        unit: (N, C) float32.
    """
    points = np.zeros((len(unit), 2))
    if len(unit) < 2:
        return points
    centred = unit.astype(np.float64) - unit.mean(axis=0, dtype=np.float64)
    _, axes = np.linalg.eigh(centred.T @ centred)
    main = axes[:, ::-1][:, :2]
    main = main * np.sign(main[np.abs(main).argmax(axis=0), np.arange(main.shape[1])])
    # The last digits depend on the number of threads.
    points[:, : main.shape[1]] = np.round(centred @ main, 8)
    return points


def _pacmap(unit: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    pacmap: Any = importlib.import_module("pacmap")
    # Comes with scikit-learn, which PaCMAP needs.
    threads_of: Any = importlib.import_module("threadpoolctl")
    log = logging.getLogger("pacmap.pacmap")
    level, threads = log.level, faiss.omp_get_max_threads()
    # It warns of the seed that it was given, and leaves FAISS with one thread.
    log.setLevel(logging.ERROR)
    try:
        # Sums by several threads round differently, and 450 steps make that visible.
        with threads_of.threadpool_limits(1):
            reducer = pacmap.PaCMAP(n_components=2, random_state=seed)
            return np.asarray(reducer.fit_transform(unit, init="pca"), dtype=np.float64)
    finally:
        log.setLevel(level)
        faiss.omp_set_num_threads(threads)


def _scaled(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scale points into 0..1, the longer side filled, the shorter one in the middle."""
    if not len(points):
        return np.zeros((0, 2), np.float32)
    low, high = points.min(axis=0), points.max(axis=0)
    side = float((high - low).max()) or 1.0
    return np.asarray(0.5 + (points - (low + high) / 2) / side, dtype=np.float32).clip(0.0, 1.0)
