"""Whether a service lives, and what it counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from birdsearch.indexer.catalog.store import CatalogStore

if TYPE_CHECKING:
    from tests.search.service.conftest import RunningServer

MakeServer = Callable[..., "RunningServer"]


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_running_service_says_so(server: RunningServer, path: str) -> None:
    answer = httpx.get(server.url + path)
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok"}


def test_a_service_that_stops_is_not_ready(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True)
    server.service.stop()
    assert httpx.get(f"{server.url}/readyz").status_code == 503
    assert httpx.get(f"{server.url}/healthz").status_code == 200


_SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)$')


def _samples(text: str) -> dict[str, float]:
    """The samples of a text in Prometheus' format, checked: each of a family that is described before it."""
    found: dict[str, float] = {}
    described: set[str] = set()
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            described.add(line.split()[2])
        elif not line.startswith("# HELP "):
            sample = _SAMPLE.match(line)
            assert sample is not None, line
            family = re.sub(r"_(bucket|sum|count)$", "", sample[1])
            assert sample[1] in described or family in described, line
            key = line.rpartition(" ")[0]
            assert key not in found, f"twice: {key}"
            found[key] = float(sample[3])
    return found


def test_requests_are_counted_by_route_and_status(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True)
    with httpx.Client(base_url=server.url) as client:
        for path in ("/healthz", "/healthz", "/api/nothing/1", "/api/nothing/2", "/app.css"):
            client.get(path)
        client.head("/healthz")
        client.post("/api/session", content=b"{")
        client.request("BREW", "/healthz")
        answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = _samples(answer.text)

    def count(route: str, method: str, status: int) -> float:
        return samples[f'birdsearch_requests_total{{method="{method}",route="{route}",status="{status}"}}']

    assert count("/healthz", "GET", 200) == 3
    assert count("none", "GET", 404) == 2
    assert count("gallery", "GET", 200) == 1
    assert count("/api/session", "POST", 422) == 1
    assert count("/healthz", "other", 405) == 1
    assert samples["birdsearch_requests_in_flight"] == 1
    start, end = "birdsearch_request_seconds_bucket{le=", ',route="/healthz"}'
    buckets = [value for key, value in samples.items() if key.startswith(start) and key.endswith(end)]
    assert buckets == sorted(buckets)
    assert buckets[-1] == samples['birdsearch_request_seconds_count{route="/healthz"}'] == 4
    assert samples['birdsearch_request_seconds_sum{route="/healthz"}'] > 0


def test_the_size_of_the_catalog_is_told(server: RunningServer) -> None:
    samples = _samples(httpx.get(f"{server.url}/metrics").text)
    with CatalogStore.open(server.options.catalog) as store:
        counts = store.counts()
    assert samples["birdsearch_photos"] == counts.photos + counts.missing_photos > 0


def test_a_client_cannot_make_series_without_end(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True)
    with httpx.Client(base_url=server.url) as client:
        for number in range(50):
            client.get(f"/api/{number}")
            client.get(f"/{number}.js")
            client.get(f"/api/jobs/{number}")
            client.request(f"M{number}", "/healthz")
        samples = _samples(client.get("/metrics").text)
    assert sum(key.startswith("birdsearch_requests_total") for key in samples) <= 5


def test_what_the_network_looks_at_is_counted(make_server: MakeServer, catalog_path: Path) -> None:
    server = make_server(catalog=catalog_path, read_only=True)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for box in ([0.1, 0.1, 0.5, 0.5], [0.2, 0.2, 0.5, 0.5]):
            assert client.post("/api/label", json={"photo_id": 1, "box": box}).status_code == 200
        samples = _samples(client.get("/metrics").text)
    assert samples["birdsearch_network_batch_photos_sum"] == 2
    assert samples['birdsearch_network_batch_photos_bucket{le="1.0"}'] == 2
