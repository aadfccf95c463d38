"""Counters of a service, in the format that Prometheus reads."""

from __future__ import annotations

import contextlib
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birdsearch.errors import CatalogError
from birdsearch.indexer.catalog.counts import photo_counts
from birdsearch.indexer.catalog.store import CatalogStore
from birdsearch.search.service.jobs import Jobs

__all__ = ["CountRequests", "Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32)


class Metrics:
    """Everything that a service counts, in a registry of its own.

    Attributes:
        requests: Answered requests by route, method and status.
        seconds: Seconds until the answer was sent whole, by route.
        in_flight: Requests that are being answered.
        batches: Photos that the network looked at together.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "birdsearch_requests_total",
            "Answered requests.",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "birdsearch_request_seconds",
            "Seconds until an answer was sent whole.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "birdsearch_requests_in_flight", "Requests that are being answered.", registry=self._registry
        )
        self.batches = Histogram(
            "birdsearch_network_batch_photos",
            "Photos that the network looked at together.",
            buckets=_BATCHES,
            registry=self._registry,
        )

    def watch(self, store: CatalogStore, jobs: Jobs) -> None:
        """Show the size of a catalog and the jobs as well, both as they are when metrics are read.

        Args:
            store: The catalog.
            jobs: The jobs.
        """
        self._registry.register(_StateCollector(store, jobs))

    def text(self) -> str:
        """Return all metrics in Prometheus' text format 0.0.4."""
        return generate_latest(self._registry).decode()


class _StateCollector(Collector):
    def __init__(self, store: CatalogStore, jobs: Jobs) -> None:
        self._store, self._jobs = store, jobs

    def collect(self) -> Iterator[GaugeMetricFamily]:
        photos = GaugeMetricFamily("birdsearch_photos", "Photos that have a live file.")
        # What was counted is wanted most when the catalog cannot be read.
        with contextlib.suppress(CatalogError):
            photos.add_metric((), photo_counts(self._store).photos)
        yield photos
        jobs = GaugeMetricFamily(
            "birdsearch_jobs", "Jobs that are remembered, by their state.", labels=("kind", "state")
        )
        for labels, count in Tally((job.kind, job.state) for job in self._jobs.list()).items():
            jobs.add_metric(labels, count)
        yield jobs


class CountRequests:
    """Counts what passes through, by the route that answered.

    Args:
        app: What is measured.
        metrics: Returns where the requests of a scope are counted.
    """

    _METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

    def __init__(self, app: ASGIApp, metrics: Callable[[Scope], Metrics]) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the app and count."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        metrics = self._metrics(scope)
        status = 499  # The client went away before there was an answer.

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        begun = time.perf_counter()
        try:
            with metrics.in_flight.track_inprogress():
                await self._app(scope, receive, watched)
        finally:
            # The pattern of the route, never the path: a client must not be able to make series without end.
            other = "gallery" if "endpoint" in scope else "none"
            route = getattr(scope.get("route"), "path", other)
            method = scope["method"] if scope["method"] in self._METHODS else "other"
            metrics.requests.labels(route, method, str(status)).inc()
            metrics.seconds.labels(route).observe(time.perf_counter() - begun)
