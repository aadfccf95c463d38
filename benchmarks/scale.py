"""Time, peak memory and recall of k-NN graph, near pairs and clusters, as the number of vectors grows.

Usage: python benchmarks/scale.py [N ...] [--dim 128] [--threads 2] [--graph-only]

The vectors are made like those of real photos. Species are directions about a common one, of sizes that fall
like 1 over their rank (Zipf), one species for about 200 photos. Within a species vectors vary in 12 directions
of its own, with falling strength, and a little in all others; their mean cosine to their species' direction is
about 0.75. Photos come in bursts of 1 to 12 frames (geometric) that differ by little (cosine about 0.98), and
one in fifty is an exact copy.

Every size runs in a process of its own, so that its peak memory is its own; what it holds before it begins (the
vectors, the libraries) is printed beside.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import numpy as np
from numpy.typing import NDArray

_SIZES = (10_000, 100_000, 1_000_000)
_NEIGHBOURS = 15
_MIN_COSINE = 0.95
_ROWS = 50_000
_MEASURED = 500


def made(count: int, dim: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64]]:
    """Unit-norm vectors (N, C), their species (N,) and their bursts (N,), in random order."""
    rng = np.random.default_rng(seed)
    species = max(count // 200, 10)
    sizes = 1.0 / np.arange(1, species + 1) ** 0.7
    centres = rng.normal(size=(species, dim)) + 0.4 * rng.normal(size=dim)
    centres /= np.linalg.norm(centres, axis=1, keepdims=True)
    strength = 0.75 ** np.arange(12)
    strength *= 0.75 / np.linalg.norm(strength)
    axes = rng.normal(size=(species, 12, dim)).astype(np.float32) / dim**0.5
    lengths = np.minimum(rng.geometric(0.25, size=count), 12)
    lengths = lengths[: int(np.searchsorted(np.cumsum(lengths), count)) + 1]
    of_burst = rng.choice(species, len(lengths), p=sizes / sizes.sum())
    burst = np.repeat(np.arange(len(lengths)), lengths)[:count]
    truth = of_burst[burst]
    unit = np.empty((count, dim), np.float32)
    drawn = rng.normal(size=(len(lengths), 12)) * strength
    for start in range(0, count, _ROWS):
        rows = slice(start, start + _ROWS)
        number = truth[rows]
        # (B, 12) x (B, 12, C) -> (B, C)
        within = np.einsum("br,brc->bc", drawn[burst[rows]].astype(np.float32), axes[number])
        moved = np.random.default_rng([seed, 1, start]).normal(size=within.shape) * 0.15 / dim**0.5
        spread = (
            np.random.default_rng([seed, 2]).normal(size=(4096, dim))[burst[rows] % 4096] * 0.4 / dim**0.5
        )
        block = centres[number] + within + spread + moved
        unit[rows] = block / np.linalg.norm(block, axis=1, keepdims=True)
    copies = rng.choice(count - 1, count // 50, replace=False)
    unit[copies + 1], truth[copies + 1], burst[copies + 1] = unit[copies], truth[copies], burst[copies]
    order = rng.permutation(count)
    return unit[order], truth[order], burst[order]


def _peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _true_recall(unit: NDArray[np.float32], places: NDArray[np.int64], cosines: NDArray[np.float32]) -> float:
    """Share of the true neighbours found, on vectors that the graph did not tune itself on."""
    rows = np.random.default_rng(99).choice(len(unit), min(_MEASURED, len(unit)), replace=False)
    found = []
    for row in rows:
        exact = unit @ unit[row]
        exact[row] = -2.0
        least = np.partition(exact, len(exact) - _NEIGHBOURS)[-_NEIGHBOURS]
        found.append(float(((cosines[row] >= least - 1e-6) & (places[row] >= 0)).mean()))
    return float(np.mean(found))


def measure(count: int, dim: int, graph_only: bool) -> dict[str, float]:
    """Do everything once, in this process."""
    from birdsearch.search.clusters.vectors import cluster_vectors
    from birdsearch.search.query.knn_graph import knn_graph, near_pairs

    unit, truth, bursts = made(count, dim, 0)
    found: dict[str, float] = {"vectors": count, "before_mb": _peak_mb()}
    started = time.perf_counter()
    graph = knn_graph(unit, _NEIGHBOURS)
    found["graph_s"] = time.perf_counter() - started
    started = time.perf_counter()
    left, _, _ = near_pairs(graph, _MIN_COSINE)
    found["pairs_s"], found["pairs"] = time.perf_counter() - started, len(left)
    found["graph_mb"], found["said_recall"] = _peak_mb(), graph.recall
    found["true_recall"] = _true_recall(unit, graph.neighbours, graph.cosines)
    if not graph_only:
        from sklearn.metrics import adjusted_mutual_info_score

        del graph, left
        started = time.perf_counter()
        result = cluster_vectors(unit, groups=bursts)
        found["cluster_s"], found["cluster_mb"] = time.perf_counter() - started, _peak_mb()
        found["clusters"], found["species"] = int(result.labels.max()) + 1, len(np.unique(truth))
        found["outliers"] = float((result.labels < 0).mean())
        alone = np.where(result.labels < 0, count + np.arange(count), result.labels)
        some = np.random.default_rng(5).choice(count, min(count, 20_000), replace=False)
        found["ami"] = float(adjusted_mutual_info_score(truth[some], alone[some]))
    return found


def main() -> int:
    """Print a line for each size, and how it grows."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, default=list(_SIZES))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--graph-only", action="store_true")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.sizes[0], options.dim, options.graph_only)))
        return 0
    before: dict[str, float] | None = None
    for size in options.sizes:
        command = [sys.executable, __file__, str(size), "--one", "--dim", str(options.dim)]
        command += ["--graph-only"] if options.graph_only else []
        threads = str(options.threads)
        environment = os.environ | {"OMP_NUM_THREADS": threads, "OPENBLAS_NUM_THREADS": threads}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        print(f"\n{size} vectors x {options.dim}, {threads} threads")
        print("  " + ", ".join(f"{key} {value:.4g}" for key, value in found.items() if key != "vectors"))
        if before is not None:
            grown = {key: found[key] / before[key] for key in found if key.endswith("_s") and before.get(key)}
            print(
                f"  {size / before['vectors']:.3g} times the vectors: "
                + ", ".join(f"{key} {value:.3g} times" for key, value in grown.items())
            )
        sys.stdout.flush()
        before = found
    return 0


if __name__ == "__main__":
    sys.exit(main())
