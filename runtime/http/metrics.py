"""Figures for Prometheus: what the app has counted, and how its jobs stand. No label holds anything of a job."""

from __future__ import annotations

import asyncio
from itertools import accumulate
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry
from starlette.responses import Response

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import ActorSchedulerError, NotStarted
from actor_scheduler.limits import SECOND_US
from actor_scheduler.times import from_datetime
from runtime.http.routes import Route

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.core import Metric

    from actor_scheduler.model import Overview
    from runtime.engine import Engine
    from runtime.http.routes import Visit
    from runtime.http.served import Served
    from runtime.meter import Histogram

READ_US: Final = SECOND_US  # between two reads of the database, however many ask
_PER_DECADE: Final = ("10", "25", "50")  # the first two digits of the bounds that are shown


class Glance:
    """How the jobs of one run of an app stand, read at most once a second."""

    def __init__(self) -> None:
        self._found: Overview | None = None
        self._read_us = 0
        self._reading = asyncio.Lock()

    async def at(self, served: Served) -> Overview | None:
        """Return it; None while the database can't be read."""
        async with self._reading:
            if self._found is None or monotonic_us() - self._read_us >= READ_US:
                try:
                    self._found = await served.scheduler.overview()
                except ActorSchedulerError:
                    self._found = None
                self._read_us = monotonic_us()
            return self._found


_GLANCES: Final[WeakKeyDictionary[Engine, Glance]] = WeakKeyDictionary()


class Figures(Collector):
    """The figures of one app at one moment."""

    def __init__(self, served: Served, engine: Engine | None, overview: Overview | None) -> None:
        self._served = served
        self._engine = engine
        self._overview = overview

    def collect(self) -> Iterator[Metric]:
        """Yield every figure."""
        yield _gauge("ready", "Whether the app accepts and starts work.", self._served.unready_reason is None)
        if self._engine is None:
            return
        yield from self._standing(self._engine)
        yield from self._attempts(self._engine)
        meter = self._engine.meter
        yield _histogram("commit_seconds", "How long turns of the writer took, their commit included.", meter.commit)
        yield _histogram("start_lag_seconds", "How long after their fire time attempts were started.", meter.lag)
        yield _histogram("turn_units", "How many units turns of the writer had: commands and due jobs.", meter.batch, 1)
        ticks = CounterMetricFamily("actor_scheduler_cron_ticks", "Ticks of crons that have come.", labels=["state"])
        ticks.add_metric(["run"], meter.ticks_run)
        ticks.add_metric(["dropped"], meter.ticks_dropped)
        yield ticks

    def _standing(self, engine: Engine) -> Iterator[Metric]:
        paused = self._served.scheduler.paused is not None
        yield _gauge("paused", "Whether an operator has paused everything.", paused)
        yield _gauge("listeners", "Listeners of live events.", len(engine.feed))
        lag_us = engine.loop_lag.ask()
        if lag_us is not None:
            yield _gauge("loop_lag_seconds", "The most that a timer of the event loop was late.", lag_us / SECOND_US)
        limits = GaugeMetricFamily("actor_scheduler_pool_limit", "Actions of a pool that may run.", labels=["pool"])
        running = GaugeMetricFamily("actor_scheduler_pool_running", "Actions of a pool that run.", labels=["pool"])
        for pool in self._served.scheduler.pools():
            limits.add_metric([pool.name], pool.limit)
            running.add_metric([pool.name], pool.running)
        yield limits
        yield running
        if self._overview is not None:
            yield from self._stored(engine, self._overview)

    def _stored(self, engine: Engine, found: Overview) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(
            "actor_scheduler_jobs",
            "Jobs by state: waiting, running, and dead, which is failed and kept until somebody retries or drops them.",
            labels=["state"],
        )
        for state, count in (("pending", found.pending), ("in_progress", found.in_progress), ("failed", found.failed)):
            jobs.add_metric([state], count)
        yield jobs
        yield _gauge("jobs_due", "Pending jobs whose fire time has come.", found.due)
        lag_us = 0
        if found.oldest_due_at is not None:
            lag_us = max(engine.clock.now_us() - from_datetime(found.oldest_due_at), 0)
        yield _gauge(
            "oldest_due_seconds", "How long the oldest due job has been overdue; 0 if none is.", lag_us / SECOND_US
        )
        yield _gauge("crons", "Crons.", found.crons)
        yield _gauge("crons_paused", "Crons that an operator has paused.", found.crons_paused)
        yield _gauge("crons_troubled", "Crons that can't go on, or are ahead of the clock.", found.crons_troubled)

    def _attempts(self, engine: Engine) -> Iterator[Metric]:
        started = CounterMetricFamily(
            "actor_scheduler_attempts_started", "Attempts of jobs that were started.", labels=["function"]
        )
        ended = CounterMetricFamily(
            "actor_scheduler_attempts_ended",
            "Attempts that ended, by what their job was then; pending: it failed, and another attempt follows.",
            labels=["function", "state"],
        )
        failures = CounterMetricFamily(
            "actor_scheduler_attempt_failures",
            "Attempts that failed, for good or to be retried.",
            labels=["function", "cause"],
        )
        for name, counts in engine.meter.known():
            started.add_metric([name], counts.started)
            ended.add_metric([name, "success"], counts.success)
            ended.add_metric([name, "failed"], counts.failed)
            ended.add_metric([name, "canceled"], counts.canceled)
            ended.add_metric([name, "pending"], counts.retried)
            for cause, count in counts.failures.items():
                failures.add_metric([name, cause], count)
        yield started
        yield ended
        yield failures


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(f"actor_scheduler_{name}", told, value=float(value))


def _histogram(name: str, told: str, histogram: Histogram, unit: int = SECOND_US) -> Metric:
    counts = list(accumulate(histogram.counts))
    shown = [
        (f"{bound / unit:g}", float(count))
        for bound, count in zip(histogram.bounds, counts, strict=False)
        if unit == 1 or str(bound)[:2] in _PER_DECADE
    ]
    return HistogramMetricFamily(
        f"actor_scheduler_{name}", told, buckets=[*shown, ("+Inf", float(counts[-1]))], sum_value=histogram.sum / unit
    )


async def metrics(visit: Visit) -> Response:
    """Answer with the figures; of an app that does not run, with no more than that."""
    engine: Engine | None = None
    overview: Overview | None = None
    try:
        engine = visit.served.engine()
        overview = await _GLANCES.setdefault(engine, Glance()).at(visit.served)
    except NotStarted:
        engine = None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Figures(visit.served, engine, overview))
    return Response(generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})


ROUTES: Final = (
    Route(
        method="GET",
        path="/metrics",
        door="read",
        handler=metrics,
        summary="Figures for Prometheus.",
        answers={200: "text/plain, as Prometheus reads it"},
    ),
)
