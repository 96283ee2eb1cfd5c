"""Counters for Prometheus. No label names a tenant."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from cipherlens.service import tally
from cipherlens.service.audit import Audit
from cipherlens.service.database import Database, File, Job
from cipherlens.service.states import STATES, UNFINISHED

SECONDS = (0.005, 0.02, 0.1, 0.5, 2, 10, 60)


class _Stored(Collector):
    """What the database, the disk and the audit log say when somebody asks."""

    def __init__(self, database: Database, data: Path, audit: Audit) -> None:
        self._database, self._data, self._audit = database, data, audit

    def collect(self) -> Iterator[Metric]:
        with self._database.reading() as session:
            jobs = {state: n for state, n in session.execute(select(Job.state, func.count()).group_by(Job.state))}  # noqa: C416 (rows are no pairs to mypy)
            files = {
                k: int(size) for k, size in session.execute(select(File.kind, func.sum(File.size)).group_by(File.kind))
            }
            oldest = session.scalar(select(func.min(Job.created)).where(Job.state == UNFINISHED[0]))
            tallies = tally.read(session)
        yield _gauges("cipherlens_jobs", "Jobs by state", "state", {state: jobs.get(state, 0) for state in STATES})
        waiting = 0.0 if oldest is None else max(0.0, time.time() - oldest)
        yield GaugeMetricFamily("cipherlens_queue_seconds", "How long the oldest queued job waits", waiting)
        yield _gauges("cipherlens_stored_bytes", "Bytes of files by kind", "kind", files)
        free = shutil.disk_usage(self._data).free
        yield GaugeMetricFamily("cipherlens_disk_free_bytes", "Room left on the disk", free)
        records = self._audit.head().number
        yield GaugeMetricFamily("cipherlens_audit_records", "Records of the audit log; never falls", records)
        for name, words, labels in (
            (tally.ENDED, "Jobs that ended", ("kind", "state")),
            (tally.SECONDS, "Seconds that jobs took", ("kind",)),
            (tally.DEATHS, "Processes that died and were replaced", ("role",)),
        ):
            family = CounterMetricFamily(f"cipherlens_{name}", words, labels=labels)
            for values, count in tallies[name].items():
                family.add_metric(values, count)
            yield family

    def describe(self) -> Iterator[Metric]:
        """Nothing, so that registering does not ask the database."""
        yield from ()


class Metrics:
    """The counters of one process, and what is stored."""

    def __init__(self, database: Database, data: Path, audit: Audit, version: str) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "cipherlens_requests", "Requests", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "cipherlens_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=self._registry
        )
        self._received = Counter("cipherlens_received_bytes", "Bytes of request bodies", registry=self._registry)
        self._sent = Counter("cipherlens_sent_bytes", "Bytes of answers", registry=self._registry)
        Gauge("cipherlens_info", "The version", ["version"], registry=self._registry).labels(version).set(1)
        self._registry.register(_Stored(database, data, audit))

    def count(self, method: str, route: str, status: int, seconds: float, received: int, sent: int) -> None:
        """One request. route: the template, never the path that was asked for."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)
        self._received.inc(received)
        self._sent.inc(sent)

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)


def _gauges(name: str, words: str, label: str, values: dict[str, int]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family
