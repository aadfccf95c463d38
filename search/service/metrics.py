"""What a service counts, in the text format that Prometheus reads."""

from __future__ import annotations

import bisect
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["CountRequests", "Counter", "Gauge", "Histogram", "Metrics"]

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_BATCHES = (1, 2, 4, 8, 16, 32)

Labels = tuple[str, ...]


class _Family(ABC):
    """Samples of one name, told apart by labels."""

    kind = "untyped"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        self.name = name
        self._text = text
        self._labels = tuple(labels)
        self._lock = threading.Lock()

    def lines(self) -> list[str]:
        """The family as text, with its help and its type."""
        return [f"# HELP {self.name} {self._text}", f"# TYPE {self.name} {self.kind}", *self._samples()]

    @abstractmethod
    def _samples(self) -> list[str]:
        """The family's lines, without its help and its type."""

    def _sample(self, values: Labels, value: float, suffix: str = "", extra: str = "") -> str:
        pairs = [f'{name}="{_escaped(value)}"' for name, value in zip(self._labels, values, strict=True)]
        inside = ",".join([*pairs, extra] if extra else pairs)
        return (
            f"{self.name}{suffix}{{{inside}}} {_number(value)}"
            if inside
            else f"{self.name}{suffix} {_number(value)}"
        )


class Counter(_Family):
    """A number that only grows."""

    kind = "counter"

    def __init__(self, name: str, text: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self._values: dict[Labels, float] = {} if labels else {(): 0}

    def add(self, *labels: str, by: float = 1) -> None:
        """Count."""
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + by

    def _samples(self) -> list[str]:
        with self._lock:
            return [self._sample(labels, value) for labels, value in sorted(self._values.items())]


class Gauge(_Family):
    """A number that is asked for when it is read.

    Args:
        name: Its name.
        text: What it is.
        read: Gives the values by their labels; `{(): value}` if there are no labels.
        labels: Names of the labels.
    """

    kind = "gauge"

    def __init__(
        self, name: str, text: str, read: Callable[[], dict[Labels, float]], labels: Sequence[str] = ()
    ) -> None:
        super().__init__(name, text, labels)
        self._read = read

    def _samples(self) -> list[str]:
        return [self._sample(labels, value) for labels, value in sorted(self._read().items())]


class Histogram(_Family):
    """How often values were up to each bound."""

    kind = "histogram"

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Sequence[str] = ()) -> None:
        super().__init__(name, text, labels)
        self._bounds = (*bounds, math.inf)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        if not labels:
            self._start(())

    def _start(self, labels: Labels) -> None:
        self._counts[labels] = [0] * len(self._bounds)
        self._sums[labels] = 0.0

    def observe(self, value: float, *labels: str) -> None:
        """Record a value."""
        with self._lock:
            if labels not in self._counts:
                self._start(labels)
            self._counts[labels][bisect.bisect_left(self._bounds, value)] += 1
            self._sums[labels] += value

    def _samples(self) -> list[str]:
        lines: list[str] = []
        with self._lock:
            for labels, counts in sorted(self._counts.items()):
                total = 0
                for bound, count in zip(self._bounds, counts, strict=True):
                    total += count
                    lines.append(self._sample(labels, total, "_bucket", f'le="{_number(bound)}"'))
                lines.append(self._sample(labels, self._sums[labels], "_sum"))
                lines.append(self._sample(labels, total, "_count"))
        return lines


class Metrics:
    """Everything that a service counts.

    Attributes:
        requests: Answered requests by route, method and status.
        seconds: Seconds until the answer was sent whole, by route.
        batches: Photos that the network looked at together.
    """

    def __init__(self) -> None:
        self._in_flight = 0
        self._lock = threading.Lock()
        self.requests = Counter(
            "birdsearch_requests_total", "Answered requests.", ("route", "method", "status")
        )
        self.seconds = Histogram(
            "birdsearch_request_seconds", "Seconds until an answer was sent whole.", _SECONDS, ("route",)
        )
        self.batches = Histogram(
            "birdsearch_network_batch_photos", "Photos that the network looked at together.", _BATCHES
        )
        self._families: list[_Family] = [
            self.requests,
            self.seconds,
            Gauge(
                "birdsearch_requests_in_flight",
                "Requests that are being answered.",
                lambda: {(): self._in_flight},
            ),
            self.batches,
        ]

    def add(self, family: _Family) -> None:
        """Show one more family."""
        self._families.append(family)

    def enter(self) -> None:
        """A request came in."""
        with self._lock:
            self._in_flight += 1

    def leave(self, route: str, method: str, status: int, seconds: float) -> None:
        """A request was answered."""
        with self._lock:
            self._in_flight -= 1
        self.requests.add(route, method, str(status))
        self.seconds.observe(seconds, route)

    def text(self) -> str:
        """All families in Prometheus' text format 0.0.4."""
        lines = [line for family in self._families for line in family.lines()]
        return "\n".join(lines) + "\n"


class CountRequests:
    """Counts what passes through, by the route that answered.

    Args:
        app: What is measured.
        metrics: Where it is counted.
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
        metrics.enter()
        try:
            await self._app(scope, receive, watched)
        finally:
            # The pattern of the route, never the path: a client must not be able to make series without end.
            other = "gallery" if "endpoint" in scope else "none"
            route = getattr(scope.get("route"), "path", other)
            method = scope["method"] if scope["method"] in self._METHODS else "other"
            metrics.leave(route, method, status, time.perf_counter() - begun)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isinf(value):
        return "+Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
