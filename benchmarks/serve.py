"""`birdsearch serve` on a catalog of 100,000 photos, asked by 32 clients of another process over the loopback.

Usage: python benchmarks/serve.py [--seconds 10] [--minutes 0] [--clients 32] [--runtime auto]

- Photos that are sent, decoded, embedded, searched for and labelled, a second; as a share of what the network alone
  does in a process of its own, measured before and after in the same run on the same cores.
- Searches for vectors, with and without labels: how long they take, and how many a second, each client asking again
  as soon as it is answered; and how long they take where each asks four times a second.
- The same while `birdsearch index` adds photos, every answer compared with all pairs.
- The memory of the server and its decoders; with `--minutes`, over so long.

Server, clients, decoders and indexing share the machine's cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from made_catalog import PHOTOS, fill
from PIL import Image
from timing import machine

_UPLOADS, _QUERIES, _K = 200, 500, 20
# How often each client asks where it does not ask again at once.
_EVERY_S = 0.25
# Photos that are indexed while others search.
_MORE = 600
_HERE = Path(__file__).parent


@dataclass
class Server:
    """A server that runs.

    Attributes:
        process: The process.
        port: Where it listens.
        memory: Megabytes of it and its decoders, sampled every second.
    """

    process: subprocess.Popen[str]
    port: int
    memory: list[float]

    def cpu_s(self) -> float:
        """Processor time of the server itself so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def serving(catalog: Path, environment: dict[str, str]) -> Iterator[Server]:
    """A server of a catalog, in a process of its own."""
    command = [sys.executable, "-m", "birdsearch", "serve", "--catalog", str(catalog), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            server = Server(process, int(said.split(" (")[0].rpartition(":")[2]), [])
            threading.Thread(target=_sample, args=(server,), daemon=True).start()
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _sample(server: Server) -> None:
    while server.process.poll() is None:
        with contextlib.suppress(OSError):
            server.memory.append(_memory_mb(server.process.pid))
        time.sleep(1.0)


def _memory_mb(pid: int) -> float:
    """Resident memory of a process and its children; pages that they share count once each."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split()
    tasks = Path(f"/proc/{pid}/task").iterdir()
    with contextlib.suppress(OSError):
        children = [
            child for task in tasks for child in (task / "children").read_text(encoding="utf-8").split()
        ]
    total = 0.0
    for each in [str(pid), *children]:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{each}/status").read_text(encoding="utf-8").splitlines():
                if line.startswith("VmRSS"):
                    total += int(line.split()[1]) / 1024
    return total


def asked(server: Server, options: argparse.Namespace, path: str, **what: Any) -> dict[str, Any]:
    """What came of the clients' requests."""
    spec = {"seconds": options.seconds, "clients": options.clients, **what, "port": server.port, "path": path}
    before = server.cpu_s()
    done = subprocess.run(
        [sys.executable, str(_HERE / "serve_client.py")],
        input=json.dumps(spec),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    result: dict[str, Any] = json.loads(done.stdout)
    result["server_cpu_ms"] = 1000 * (server.cpu_s() - before) / max(result["answers"], 1)
    return result


def network_rate(weights: Path, environment: dict[str, str]) -> float:
    """Photos a second of the network alone, in a process of its own."""
    program = (
        "import sys, time, numpy as np\n"
        "from birdsearch.model import load_model\n"
        "model = load_model(sys.argv[1])\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (32, *model.input_size, 3), dtype=np.uint8)\n"
        "model.infer_pixels(pixels)\n"
        "started = time.perf_counter(); count = 0\n"
        "while (elapsed := time.perf_counter() - started) < 4.0:\n"
        "    model.infer_pixels(pixels); count += len(pixels)\n"
        "print(model.runtime, count / elapsed)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(weights)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**environment, "BIRDSEARCH_RUNTIME": environment["BIRDSEARCH_RUNTIME"]},
    )
    runtime, rate = done.stdout.split()
    print(f"  the network alone ({runtime}): {float(rate):.0f} photos/s", flush=True)
    return float(rate)


def _photos(folder: Path, count: int, first: int, size: tuple[int, int]) -> Path:
    """Textured JPEGs that the catalog does not know."""
    folder.mkdir()
    for seed in range(first, first + count):
        coarse = np.random.default_rng(seed).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(
            folder / f"{seed:06d}.jpg", quality=88
        )
    return folder


def _made(place: Path) -> tuple[Path, Path]:
    """The catalog and its weights."""
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.indexer.vectors.index import VectorIndex

    (place / "models").mkdir(parents=True)
    catalog, weights = place / "catalog", place / "models" / "xcit_nano12_p16_bench.pt"
    with CatalogStore.open(catalog, "create") as store:
        fill(store, weights)
        model = store.active_model()
        assert model is not None
        index = VectorIndex.open(store, model.id, model.embedding_size)
        index.save(store)
        rows = index.vectors[np.argsort(index.view_ids)]
        np.save(place / "unit.npy", rows)
    rng = np.random.default_rng(9)
    near = rows[rng.choice(len(rows), _QUERIES, replace=False)]
    noise = rng.normal(size=near.shape) / near.shape[1] ** 0.5
    np.save(place / "queries.npy", (near + 0.5 * noise).astype(np.float32))
    return catalog, weights


def _during_index(
    server: Server, options: argparse.Namespace, place: Path, weights: Path, environment: dict[str, str]
) -> dict[str, Any]:
    """Searches while photos are added, each compared with all pairs; then all of them once more."""
    from birdsearch.indexer.catalog.embeddings import unit_vectors
    from birdsearch.indexer.catalog.store import CatalogStore
    from birdsearch.model import load_model

    more = _photos(place / "more", _MORE, 10_000, (320, 240))
    command = [sys.executable, "-m", "birdsearch", "index", str(more), "--catalog", str(place / "catalog")]
    # Half of the questions are about photos that come.
    coming = load_model(weights, runtime="torch").infer(sorted(more.iterdir())[::12]).embeddings
    questions = np.concatenate([np.load(place / "queries.npy")[: len(coming)], coming])
    np.save(place / "asked.npy", questions)
    request = {"k": _K, "labels": False}
    vectors = {"vectors": str(place / "asked.npy"), "unit": str(place / "unit.npy")}
    result: dict[str, Any] = {"answers": 0, "errors": 0, "first_error": None, "p99_ms": 0.0}
    came: dict[tuple[int, int], float] = {}
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    ) as run:
        while run.poll() is None:
            found = asked(server, options, "/api/search", request=request, **vectors, seconds=4, clients=8)
            result["answers"] += found["answers"]
            result["errors"] += found["errors"]
            result["first_error"] = result["first_error"] or found["first_error"]
            result["p99_ms"] = max(result["p99_ms"], found["p99_ms"])
            came |= {(query, photo): near for query, photo, near in found["came"]}
    assert run.returncode == 0, "indexing failed"
    with CatalogStore.open(place / "catalog") as store:
        ids = sorted({photo for _, photo in came})
        views = store.whole_views(ids)
        unit = unit_vectors(store, 1, [views[photo] for photo in ids])[0].astype(np.float64)
    queries = questions.astype(np.float64)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    wrong = sum(
        abs(float(unit[ids.index(photo)] @ queries[query]) - near) > 1e-6
        for (query, photo), near in came.items()
    )
    return {**result, "new_hits": len(came), "new_hits_wrong": wrong}


def run(options: argparse.Namespace, folder: Path, scratch: Path) -> None:
    """Measure everything, print it and write it."""
    place = scratch / "serve"
    catalog, weights = _made(place)
    photos = _photos(place / "photos", _UPLOADS, 0, (1024, 768))
    environment = {
        **os.environ,
        "BIRDSEARCH_CACHE": str(place / "cache"),
        "BIRDSEARCH_RUNTIME": options.runtime,
    }
    print(f"\nserve: {PHOTOS} photos, {options.clients} clients, load average {os.getloadavg()[0]:.1f}")
    rates = [network_rate(weights, environment)]
    results: dict[str, Any] = {}
    vectors = {"vectors": str(place / "queries.npy")}
    kinds: dict[str, dict[str, Any]] = {
        "vectors": {"request": {"k": _K, "labels": False}, **vectors},
        "vectors, paced": {"request": {"k": _K, "labels": False}, **vectors, "every_s": _EVERY_S},
        "vectors, labelled": {"request": {"k": _K}, **vectors},
        "photos": {"request": {"k": _K}, "photos": str(photos)},
    }
    with serving(catalog, environment) as server:
        for name, what in kinds.items():
            # What is loaded when it is first asked for is not counted.
            asked(server, options, "/api/search", **{**what, "seconds": 3})
            results[name] = found = asked(server, options, "/api/search", **what)
            _print(name, found)
        rates.append(network_rate(weights, environment))
        share = results["photos"]["per_s"] / statistics.mean(rates)
        print(f"  photos sent and searched, as a share of the network alone: {share:.0%}")
        results["during index"] = found = _during_index(server, options, place, weights, environment)
        print(
            f"  while {_MORE} photos are indexed: {found['answers']} answers, {found['errors']} wrong or failed "
            f"({found['first_error']}), {found['new_hits']} new hits, {found['new_hits_wrong']} wrong"
        )
        memory = _soak(server, options, kinds)
    record = {"title": "serve", "machine": machine(), "clients": options.clients, "network_per_s": rates,
              "share_of_network": share, "results": results, "memory_mb": memory}  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "serve.json").write_text(json.dumps(record, indent=2), encoding="utf-8")


def _soak(server: Server, options: argparse.Namespace, kinds: dict[str, dict[str, Any]]) -> list[float]:
    """Megabytes at ten moments of the asked minutes, all kinds of requests in turn."""
    until, errors, answers = time.monotonic() + 60 * options.minutes, 0, 0
    begin = len(server.memory)
    while time.monotonic() < until:
        for what in kinds.values():
            found = asked(server, options, "/api/search", **{**what, "seconds": 5})
            errors, answers = errors + found["errors"], answers + found["answers"]
    sampled = server.memory[begin:] or server.memory
    moments = [
        round(sampled[int(place)], 1) for place in np.linspace(0, len(sampled) - 1, min(10, len(sampled)))
    ]
    if options.minutes:
        print(f"  {options.minutes:g} minutes: {answers} answers, {errors} failed")
    print(f"  memory of the server and its decoders, MB: {', '.join(f'{value:.0f}' for value in moments)}")
    return moments


def _print(name: str, found: dict[str, Any]) -> None:
    print(
        f"  {name:20} {found['per_s']:6.0f} /s   p50 {found['p50_ms']:6.1f} ms   p99 {found['p99_ms']:6.1f} ms   "
        f"{found['server_cpu_ms']:5.2f} ms of the server's CPU   {found['errors']} failed "
        f"{found['first_error'] or ''}",
        flush=True,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--minutes", type=float, default=0)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--runtime", default="auto")
    return parser


def main(folder: Path, scratch: Path) -> None:
    """The short form, for `run.py`."""
    run(_parser().parse_args([]), folder, scratch)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made_here:
        run(_parser().parse_args(), _HERE / "results", Path(made_here))
