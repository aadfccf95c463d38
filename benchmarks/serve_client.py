"""Clients of `serve.py`, in a process of their own: each asks, reads the answer, and asks again.

With `every_s` a client asks once in so many seconds, whatever the answers take.

Takes what to ask as JSON on its standard input, and says what came of it as JSON on its standard output. It speaks
HTTP itself, so that as little as possible of the machine's time is its own.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_BOUNDARY = "benchmark"
# Similarities of the service are rounded to float32.
_NEAR = 1e-6


@dataclass
class Tally:
    """What came of the requests.

    Attributes:
        seconds: Of each answer.
        errors: Answers that were none, or were wrong.
        came: Photos that were hits and are not in the catalog's first state: by query, id and similarity.
    """

    seconds: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    came: dict[tuple[int, int], float] = field(default_factory=dict)


Check = Callable[[int, dict[str, Any]], None]


async def _ask(port: int, path: str, bodies: list[bytes], kind: str, first: int, until: float, tally: Tally,
               check: Check | None, every_s: float) -> None:  # fmt: skip
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    number = first
    due = time.perf_counter() + every_s * np.random.default_rng(first).random()
    try:
        while time.perf_counter() < until:
            # Late answers do not put off the questions after them: what these wait is counted.
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            number = (number + 1) % len(bodies)
            head = (
                f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\n"
                f"Content-Length: {len(bodies[number])}\r\n\r\n"
            )
            started = due if every_s else time.perf_counter()
            due += every_s
            writer.write(head.encode() + bodies[number])
            headers = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.partition(b":")[2])
                for line in headers.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            answer = await reader.readexactly(length)
            tally.seconds.append(time.perf_counter() - started)
            if not headers.startswith(b"HTTP/1.1 200"):
                tally.errors.append(answer.decode("utf-8", "replace")[:300])
            elif check is not None:
                check(number, json.loads(answer))
    except (OSError, asyncio.IncompleteReadError) as error:
        tally.errors.append(repr(error))
    finally:
        writer.close()


def _bodies(asked: dict[str, Any]) -> tuple[list[bytes], str]:
    """Bodies of requests, and their content type."""
    request = json.dumps(asked["request"])
    if "photos" in asked:
        begin = (
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="request"\r\n\r\n{request}\r\n'
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="photo"; filename="photo.jpg"\r\n'
            "Content-Type: image/jpeg\r\n\r\n"
        ).encode()
        end = f"\r\n--{_BOUNDARY}--\r\n".encode()
        photos = [file.read_bytes() for file in sorted(Path(asked["photos"]).iterdir())]
        return [begin + photo + end for photo in photos], f"multipart/form-data; boundary={_BOUNDARY}"
    vectors = np.load(asked["vectors"]).tolist()
    return [
        json.dumps({**asked["request"], "vector": vector}).encode() for vector in vectors
    ], "application/json"


def _checker(asked: dict[str, Any], tally: Tally) -> Check:
    """Compares hits with all pairs of the catalog's first state; photos that came since may lie between them."""
    unit: NDArray[np.float32] = np.load(asked["unit"], mmap_mode="r")
    queries = np.load(asked["vectors"]).astype(np.float64)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    k = asked["request"]["k"]
    truth: dict[int, tuple[list[int], NDArray[np.float64]]] = {}
    seen: dict[int, dict[int, float]] = {}

    def check(number: int, answer: dict[str, Any]) -> None:
        if number not in truth:
            cosines = np.asarray(unit, np.float64) @ queries[number]
            order = np.argsort(-cosines, kind="stable")[:k]
            truth[number] = ((order + 1).tolist(), cosines[order])
        ids, cosines = truth[number]
        hits = {hit["photo_id"]: hit["similarity"] for hit in answer["hits"]}
        shown = list(hits.values())
        old = [photo_id for photo_id in hits if photo_id <= len(unit)]
        tally.came.update({(number, one): hits[one] for one in hits if one > len(unit)})
        lost = [one for one, near in seen.get(number, {}).items() if one not in hits and near > shown[-1]]
        seen.setdefault(number, {}).update(hits)
        right = (
            len(hits) == k
            and shown == sorted(shown, reverse=True)
            and old == ids[: len(old)]
            and bool(np.allclose([hits[one] for one in old], cosines[: len(old)], atol=_NEAR))
            and all(hit["path"] and hit["width"] for hit in answer["hits"])
            and not lost
        )
        if not right:
            tally.errors.append(f"query {number} was answered wrongly, lost {lost}")

    return check


async def _run(asked: dict[str, Any]) -> dict[str, Any]:
    bodies, kind = _bodies(asked)
    tally = Tally()
    check = _checker(asked, tally) if "unit" in asked else None
    clients = asked["clients"]
    started = time.perf_counter()
    await asyncio.gather(
        *(
            _ask(asked["port"], asked["path"], bodies, kind, number * len(bodies) // clients,
                 started + asked["seconds"], tally, check, asked.get("every_s", 0.0))
            for number in range(clients)
        )
    )  # fmt: skip
    elapsed = time.perf_counter() - started
    p50, p99 = np.percentile(tally.seconds, [50, 99]) if tally.seconds else (np.nan, np.nan)
    return {
        "answers": len(tally.seconds),
        "per_s": len(tally.seconds) / elapsed,
        "p50_ms": 1000 * float(p50),
        "p99_ms": 1000 * float(p99),
        "errors": len(tally.errors),
        "first_error": next(iter(tally.errors), None),
        "came": [[*key, similarity] for key, similarity in tally.came.items()],
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_run(json.load(sys.stdin)))))
