"""Counters for Prometheus. No label names a tenant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)
STATES = ("queued", "running", "done", "failed", "cancelled")


class _JobsNow(Collector):
    """Jobs by state, counted when somebody asks."""

    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("cipherlens_jobs", "Jobs by state", labels=["state"])
        counts = self._counts()
        for state in STATES:
            family.add_metric([state], counts.get(state, 0))
        yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering does not ask the database."""
        yield from ()


class Metrics:
    """The counters of one process."""

    def __init__(self, jobs: Callable[[], Mapping[str, int]]) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "cipherlens_requests", "Requests", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "cipherlens_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=self._registry
        )
        self._received = Counter("cipherlens_received_bytes", "Bytes of request bodies", registry=self._registry)
        self._sent = Counter("cipherlens_sent_bytes", "Bytes of answers", registry=self._registry)
        self._registry.register(_JobsNow(jobs))

    def count(self, method: str, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        """One request. route: the template, never the path that was asked for."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._received.inc(received)
        self._sent.inc(sent)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
