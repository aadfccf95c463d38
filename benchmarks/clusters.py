"""Clusters without labels against the truth: `birdsearch cluster`'s methods, and what others would do.

Usage: python benchmarks/clusters.py VECTORS.npz|FOLDER... [--weights W] [--together] [--seed S]

A FOLDER holds a folder of photos for each species. A VECTORS.npz holds `vectors` (N, C) and `labels` (N,) and
may hold `groups` (N,), such as events; vectors with an empty label are clustered but not scored.

No method sees labels, except: k-means is told the true number of clusters, and of HDBSCAN's least sizes of a
cluster the one with the best AMI is shown. Outliers count twice: as clusters of one each (AMI, ARI, V), and not
at all (the columns after the share of outliers).
"""

from __future__ import annotations

import argparse
import functools
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birdsearch.indexer.vectors.index import normalised
from birdsearch.model.inference import load_model
from birdsearch.search.clusters.vectors import METHODS, cluster_vectors

_LEAST = (3, 5, 10)
_SUFFIXES = (".jpg", ".jpeg", ".png")

Labels = NDArray[np.int64]


def _read(source: Path, weights: str) -> tuple[NDArray[np.float32], list[str], Labels | None]:
    """Unit-norm vectors, species and groups."""
    if source.suffix == ".npz":
        with np.load(source, allow_pickle=False) as found:
            groups = found["groups"].astype(np.int64) if "groups" in found else None
            return normalised(found["vectors"]), [str(label) for label in found["labels"]], groups
    paths = sorted(path for path in source.rglob("*") if path.suffix.lower() in _SUFFIXES)
    model = load_model(weights, device="cpu")
    parts = [model.infer(paths[start : start + 32]).embeddings for start in range(0, len(paths), 32)]
    return normalised(np.concatenate(parts)), [path.parent.name for path in paths], None


def _scores(truth: Labels, labels: Labels) -> dict[str, float]:
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, v_measure_score

    truth, labels = truth[truth >= 0], labels[truth >= 0]
    member = labels >= 0
    alone = np.where(member, labels, len(labels) + np.arange(len(labels)))
    _, numbers = np.unique(alone, return_inverse=True)
    purity = sum(np.bincount(truth[numbers == each]).max() for each in range(numbers.max() + 1)) / len(truth)
    return {
        "AMI": adjusted_mutual_info_score(truth, alone),
        "ARI": adjusted_rand_score(truth, alone),
        "V": v_measure_score(truth, alone),
        "purity": purity,
        "outliers": 1.0 - member.mean(),
        "AMI in": adjusted_mutual_info_score(truth[member], labels[member]) if member.any() else 0.0,
        "ARI in": adjusted_rand_score(truth[member], labels[member]) if member.any() else 0.0,
        "clusters": len(np.unique(labels[member])),
    }


def _umap(unit: NDArray[np.float32], seed: int) -> NDArray[np.float32] | None:
    try:
        import umap
    except ImportError:
        return None
    model: Any = umap.UMAP(
        n_neighbors=15, n_components=5, min_dist=0.0, metric="cosine", random_state=seed, n_jobs=1
    )
    return np.asarray(model.fit_transform(unit), dtype=np.float32)


def _hdbscan(vectors: NDArray[np.float32], least: int) -> Labels:
    from sklearn.cluster import HDBSCAN

    found = HDBSCAN(min_cluster_size=least, copy=True).fit_predict(vectors)
    return np.asarray(np.maximum(found, -1), np.int64)


def _others(unit: NDArray[np.float32], count: int, seed: int) -> Iterator[tuple[str, Callable[[], Labels]]]:
    """What there is without birdsearch."""
    from sklearn.cluster import KMeans

    yield (
        f"k-means told the true {count}",
        lambda: KMeans(count, n_init=10, random_state=seed).fit_predict(unit).astype(np.int64),
    )
    for least in _LEAST:
        yield (
            f"HDBSCAN {least}",
            functools.partial(_hdbscan, unit, least),
        )
    flat = _umap(unit, seed)
    if flat is None:
        return
    for least in _LEAST:
        yield (
            f"UMAP + HDBSCAN {least}",
            functools.partial(_hdbscan, flat, least),
        )


def _show(name: str, scores: dict[str, float], seconds: float) -> None:
    cells = "  ".join(
        f"{value:6.0f}" if key == "clusters" else f"{value:6.3f}" for key, value in scores.items()
    )
    print(f"  {name:32} {cells}  {seconds:7.1f}", flush=True)


def compare(unit: NDArray[np.float32], species: list[str], groups: Labels | None, seed: int) -> None:
    """Print the table of one set of vectors."""
    names = sorted(set(species) - {""})
    place = {name: number for number, name in enumerate(names)}
    truth = np.array([place.get(name, -1) for name in species], dtype=np.int64)
    # What is not labelled needs a cluster too.
    count = len(names) + int((truth < 0).any())
    head = "  ".join(f"{key:>6.6}" for key in _scores(truth[:1] * 0, truth[:1] * 0))
    print(f"\n{len(unit)} vectors of {len(names)} species\n  {'':32} {head}  seconds")
    best: dict[str, tuple[float, str, dict[str, float], float]] = {}
    for name, run in _others(unit, count, seed):
        started = time.perf_counter()
        scores = _scores(truth, run())
        family = name.rstrip("0123456789 ")
        row = (scores["AMI"], name, scores, time.perf_counter() - started)
        best[family] = max(best.get(family, row), row, key=lambda each: each[0])
    for _, name, scores, seconds in best.values():
        _show(f"{name}{' (best)' if 'HDBSCAN' in name else ''}", scores, seconds)
    for method in METHODS:
        started = time.perf_counter()
        found = cluster_vectors(unit, method, seed=seed, groups=groups)
        _show(f"birdsearch {method}", _scores(truth, found.labels), time.perf_counter() - started)


def main() -> int:
    """Print a table for each source, and for all together if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="+", type=Path)
    parser.add_argument("--weights", default="demo")
    parser.add_argument("--together", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", module="umap")
    sets = []
    for source in options.sources:
        sets.append(_read(source, options.weights))
        print(f"\n{source.name}", end="")
        compare(*sets[-1], options.seed)
    if options.together and len(sets) > 1:
        print("\ntogether", end="")
        species = [name for each in sets for name in each[1]]
        compare(np.concatenate([each[0] for each in sets]), species, None, options.seed)
    return 0


if __name__ == "__main__":
    sys.exit(main())
