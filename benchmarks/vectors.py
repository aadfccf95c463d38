"""The vector index of a catalog as it grows: search, filters, opening, adding, building; beside HNSW indexes.

Usage: python benchmarks/vectors.py [N ...] [--dim 128] [--runs 5] [--others-up-to 100000] [--seed 0]

The vectors are those of `scale.py`: few species, bursts, copies. The queries are of the same species and bursts,
and are not in the catalog. What is timed is `nearest` on a real catalog, so everything from the query's embedding
to exactly ranked view ids. Beside it, in turn and in the same run, answer faiss's IndexHNSWFlat (32 links) and
usearch's HNSW, each as it is made by default; recall@20 of each is against all pairs. Above `--others-up-to`
vectors they are left out, since building them takes minutes.

Every size is built in a process of its own, so that the peak memory is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from made_photos import add_photos
from numpy.typing import NDArray
from scale import made
from timing import Spread, interleaved, spread

_SIZES = (10_000, 100_000, 1_000_000)
_QUERIES, _ALONE, _K, _ADDED = 1000, 50, 20, 1000
_SHARES = (0.01, 0.1, 0.5)


def make_catalog(path: Path, unit: NDArray[np.float32]) -> None:
    """A catalog of photos that have these vectors, one each, written as `index` writes them."""
    import sqlalchemy as sa

    from birdsearch.indexer.catalog import schema
    from birdsearch.indexer.catalog.store import CatalogStore

    dim = unit.shape[1]
    with CatalogStore.open(path, "create") as store, store.writing() as connection:
        connection.execute(
            sa.insert(schema.model).values(
                id=1,
                name="made up",
                network="none",
                sha256="0" * 64,
                preprocessing="none",
                embedding_size=dim,
                classes="[]",
                head_weight=b"",
                head_bias=b"",
            )
        )
        connection.execute(sa.insert(schema.meta).values(key="model", value="1"))
        connection.execute(sa.insert(schema.root).values(id=1, path=b"/photos", added_at="now"))
        add_photos(connection, unit, 1)


def _peak_mb() -> float:
    # Not `getrusage`, which after a fork begins with the peak of the parent.
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
    return float("nan")


def build(path: Path, dim: int) -> dict[str, float]:
    """Build and save the index of a catalog, in this process."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.vectors.index import VectorIndex

    before = _peak_mb()
    with CatalogStore.open(path, "write") as store:
        started = time.perf_counter()
        index = VectorIndex.build(store, 1, dim)
        read = time.perf_counter()
        index.save(store)
        return {
            "read_s": read - started,
            "save_s": time.perf_counter() - read,
            "before_mb": before,
            "peak_mb": _peak_mb(),
            "stated_recall": 1.0 if index.nprobe is None else index.nprobe.recall,
            "lists": 0.0 if index.nprobe is None else float(index.nprobe.count),
        }


def _least(unit: NDArray[np.float32], queries: NDArray[np.float32]) -> NDArray[np.float32]:
    """The similarity of the k-th nearest of each query, by all pairs."""
    found = [
        np.partition(queries[start : start + 50] @ unit.T, len(unit) - _K, axis=1)[:, -_K]
        for start in range(0, len(queries), 50)
    ]
    return np.concatenate(found)


def _recall(similarities: NDArray[np.float32], least: NDArray[np.float32]) -> float:
    """Share of the k nearest found. A copy of the k-th is as good as the k-th."""
    return float((similarities >= least[:, None] - 1e-5).sum() / (len(least) * _K))


def _others(unit: NDArray[np.float32], threads: int) -> dict[str, Callable[[NDArray[np.float32]], Any]]:
    """The HNSW of faiss and of usearch, as they are by default: they answer with places and inner products."""
    import faiss
    from usearch.index import Index

    theirs: Any = faiss.IndexHNSWFlat(unit.shape[1], 32, faiss.METRIC_INNER_PRODUCT)
    started = time.perf_counter()
    theirs.add(unit)
    print(f"  faiss HNSW built in {time.perf_counter() - started:.1f} s")
    other = Index(ndim=unit.shape[1], metric="ip", dtype="f32")
    started = time.perf_counter()
    other.add(np.arange(len(unit)), unit, threads=threads)
    print(f"  usearch HNSW built in {time.perf_counter() - started:.1f} s")

    def by_faiss(queries: NDArray[np.float32]) -> Any:
        return theirs.search(queries, _K)[0]

    def by_usearch(queries: NDArray[np.float32]) -> Any:
        found = other.search(queries if len(queries) > 1 else queries[0], _K, threads=threads)
        return 1.0 - np.atleast_2d(found.distances)

    return {"faiss HNSW": by_faiss, "usearch HNSW": by_usearch}


def _timed(
    searches: dict[str, Callable[[NDArray[np.float32]], Any]], queries: NDArray[np.float32], runs: int
) -> dict[str, dict[str, Spread]]:
    """Milliseconds a query alone, and queries a second together, of each in turn."""

    def alone(search: Callable[[NDArray[np.float32]], Any]) -> Callable[[], None]:
        def run() -> None:
            for row in range(_ALONE):
                search(queries[row : row + 1])

        return run

    single = interleaved({name: alone(search) for name, search in searches.items()}, runs)
    batch = interleaved(
        {name: partial(search, queries) for name, search in searches.items()}, max(runs // 2, 2)
    )
    return {
        name: {
            "single_ms": spread([1000 * seconds / _ALONE for seconds in single[name]]),
            "batch_per_s": spread([len(queries) / seconds for seconds in batch[name]]),
        }
        for name in searches
    }


def measure(
    path: Path, unit: NDArray[np.float32], truth: NDArray[np.int64], options: argparse.Namespace
) -> dict[str, Any]:
    """Everything about one size; the last vectors are the queries and what is added."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.vectors.index import VectorIndex
    from birdsearch.search.query.knn import nearest

    count = len(unit) - _QUERIES - _ADDED
    stored, queries, more = unit[:count], unit[count : count + _QUERIES], unit[count + _QUERIES :]
    rng = np.random.default_rng(7)
    result: dict[str, Any] = {"vectors": count}
    with CatalogStore.open(path) as store:
        opened = interleaved({"open": lambda: VectorIndex.open(store, 1, options.dim)}, options.runs)["open"]
        result["open_ms"] = spread([1000 * seconds for seconds in opened])
        first = []
        for _ in range(options.runs):
            index = VectorIndex.open(store, 1, options.dim)
            started = time.perf_counter()
            nearest(index, queries[:1], _K)
            first.append(1000 * (time.perf_counter() - started))
        result["first_query_ms"] = spread(first)

        def ours(
            exact: bool = False, allowed: NDArray[np.int64] | None = None
        ) -> Callable[[NDArray[np.float32]], Any]:
            return lambda some: nearest(index, some, _K, allowed, exact=exact).similarities

        searches = {"birdsearch": ours(), "birdsearch, exact": ours(exact=True)}
        if index.nprobe is None:
            del searches["birdsearch, exact"]
        if count <= options.others_up_to:
            searches |= _others(np.ascontiguousarray(stored), options.threads)
        least = _least(stored, queries)
        result["search"] = {
            name: {"recall": _recall(searches[name](queries), least), **found}
            for name, found in _timed(searches, queries, options.runs).items()
        }
        kept = {f"{share:.0%} at random": np.flatnonzero(rng.random(count) < share) for share in _SHARES}
        # What people filter by goes with the look: a tenth of the species.
        species = np.unique(truth)
        some = rng.choice(species, max(len(species) // 10, 1), replace=False)
        kept["a tenth of the species"] = np.flatnonzero(np.isin(truth[:count], some))
        searches = {"no filter": ours()} | {
            name: ours(allowed=(places + 1).astype(np.int64)) for name, places in kept.items()
        }
        leasts = {"no filter": least} | {
            name: _least(stored[places], queries) for name, places in kept.items()
        }
        result["filters"] = {
            name: {"recall": _recall(searches[name](queries), leasts[name]), **found}
            for name, found in _timed(searches, queries, options.runs).items()
        }
    added = []
    with CatalogStore.open(path, "write") as store:
        index = VectorIndex.open(store, 1, options.dim)
        for part in range(0, _ADDED, _ADDED // 2):
            with store.writing() as connection:
                add_photos(connection, more[part : part + _ADDED // 2], count + 1 + part)
            started = time.perf_counter()
            index.replay(store)
            if not index.is_saved:
                index.save(store)
            added.append(1000 * (time.perf_counter() - started))
        result["add_ms_per_1000"] = spread([2 * value for value in added])
        with CatalogStore.open(path) as reader:
            opened = interleaved({"open": lambda: VectorIndex.open(reader, 1, options.dim)}, options.runs)[
                "open"
            ]
        result["open_after_adding_ms"] = spread([1000 * seconds for seconds in opened])
        started = time.perf_counter()
        index.save(store)
        result["rewrite_s"] = time.perf_counter() - started
    return result


def _print(result: dict[str, Any]) -> None:
    for key, value in result.items():
        if not isinstance(value, dict):
            print(f"  {key:24} {value if isinstance(value, Spread) else f'{value:.4g}'}")
    for group in ("search", "filters"):
        print(f"  {group:24}   recall@{_K}   ms a query alone              queries/s together")
        names = list(result[group])
        for name, found in result[group].items():
            print(f"    {name:24} {found['recall']:.4f}  {found['single_ms']}   {found['batch_per_s']}")
        mine = result[group][names[0]]
        for name in names[1:]:
            other = result[group][name]
            print(
                f"    {names[0]} against {name}: alone "
                f"{other['single_ms'].median / mine['single_ms'].median:.2f} times as fast, together "
                f"{mine['batch_per_s'].median / other['batch_per_s'].median:.2f} times"
            )


def _sized(size: int, options: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    path = scratch / f"catalog-{size}"
    unit, truth, _ = made(size + _QUERIES + _ADDED, options.dim, options.seed)
    started = time.perf_counter()
    make_catalog(path, unit[:size])
    print(
        f"\n{size} vectors x {options.dim}; catalog written in {time.perf_counter() - started:.1f} s",
        flush=True,
    )
    command = [sys.executable, __file__, "--build", str(path), "--dim", str(options.dim)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    built = {f"build_{key}": value for key, value in json.loads(done.stdout.splitlines()[-1]).items()}
    result = built | measure(path, unit, truth, options)
    _print(result)
    sys.stdout.flush()
    return result


def run(options: argparse.Namespace, folder: Path, scratch: Path) -> None:
    """Print and write everything about all sizes."""
    results = [_sized(size, options, scratch) for size in options.sizes]
    folder.mkdir(parents=True, exist_ok=True)
    record = {
        "title": "vectors",
        "machine": {
            "system": platform.platform(),
            "cores": os.cpu_count(),
            "python": platform.python_version(),
        },
        "results": results,
    }
    text = json.dumps(record, indent=2, default=lambda value: asdict(value))
    (folder / "vectors.json").write_text(text, encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sizes", nargs="*", type=int, default=list(_SIZES))
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--others-up-to", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    return parser


def main(folder: Path, scratch: Path) -> None:
    """All sizes with the usual settings, for `run.py`."""
    run(_parser().parse_args([]), folder, scratch)


if __name__ == "__main__":
    asked = _parser().parse_args()
    if asked.build is not None:
        print(json.dumps(build(asked.build, asked.dim)))
        sys.exit(0)
    with tempfile.TemporaryDirectory() as made_here:
        run(asked, Path(__file__).parent / "results", Path(made_here))
