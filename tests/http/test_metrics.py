"""Metrics: what Prometheus' own parser reads is what happened, and nothing of a job stands in it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx
import pytest
from prometheus_client import REGISTRY
from prometheus_client.parser import text_string_to_metric_families

from runtime.http import metrics as metrics_module
from runtime.testing import Harness
from tests.http.conftest import READ, Site, make_app, make_http
from tests.http.hostile import CORPUS

LABELS = {"function", "cause", "state", "pool", "le"}


def parsed(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def value(families: dict[str, Any], name: str, **labels: str) -> float:
    (found,) = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == f"actor_scheduler_{name}" and sample.labels == labels
    ]
    return float(found)


def samples(families: dict[str, Any]) -> Iterable[Any]:
    return (sample for family in families.values() for sample in family.samples)


async def test_the_figures_are_those_of_the_app(
    site: Site, reader: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs by state, lag, attempts by function and how they ended, failures by cause, pools, turns."""
    monkeypatch.setattr(metrics_module, "READ_US", 0)
    h = site.harness
    before = parsed(await reader.get("/metrics"))
    await h.scheduler.run_now("notes:add", {"text": "a"})
    await h.scheduler.run_now("notes:fail")
    await h.scheduler.run_after(500, "notes:add", {"text": "b"})
    await h.settle()
    await h.scheduler.set_pool("mail", 0)
    await h.scheduler.run_now("notes:send")
    h.clock.step(7_000_000)
    now = parsed(await reader.get("/metrics"))
    assert value(now, "ready") == 1
    assert value(now, "paused") == 0
    assert value(now, "listeners") == 0
    assert value(now, "jobs", state="pending") == 2
    assert value(now, "jobs", state="failed") == 1
    assert value(now, "jobs", state="in_progress") == 0
    assert value(now, "jobs_due") == 1
    assert value(now, "oldest_due_seconds") == 7
    assert value(now, "pool_limit", pool="mail") == 0
    assert value(now, "pool_running", pool="mail") == 0
    assert value(now, "attempts_started_total", function="notes:add") == 1
    assert value(now, "attempts_ended_total", function="notes:add", state="success") == 1
    assert value(now, "attempts_ended_total", function="notes:fail", state="failed") == 1
    assert value(now, "attempt_failures_total", function="notes:fail", cause="error") == 1
    assert value(now, "crons") == 3
    assert value(now, "cron_ticks_total", state="run") == site.app._started().meter.ticks_run
    assert value(now, "commit_seconds_count") > value(before, "commit_seconds_count")
    assert value(now, "turn_units_bucket", le="+Inf") == value(now, "turn_units_count")
    assert value(now, "start_lag_seconds_bucket", le="0.0001") == value(now, "start_lag_seconds_count")
    await h.scheduler.pause("me")
    assert value(parsed(await reader.get("/metrics")), "paused") == 1


async def test_every_metric_is_described_and_labels_are_few(site: Site, reader: httpx.AsyncClient) -> None:
    """Names begin with the product's, have a help text, and only labels whose values are bounded."""
    await site.harness.scheduler.run_now("notes:fail")
    await site.harness.settle()
    families = parsed(await reader.get("/metrics"))
    assert len(families) > 15
    for name, family in families.items():
        assert name.startswith("actor_scheduler_")
        assert family.documentation.endswith(".")
        assert family.type in {"gauge", "counter", "histogram"}
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, sample
    functions = {sample.labels["function"] for sample in samples(families) if "function" in sample.labels}
    assert functions == {function.path for function in site.app._registry.functions()}


async def test_buckets_only_rise(site: Site, reader: httpx.AsyncClient) -> None:
    """As Prometheus takes for granted, up to the count, and with bounds that it can compare."""
    for _ in range(30):
        await site.harness.call("notes:count")
        await site.harness.call("notes:add", {"text": "x"})
    families = parsed(await reader.get("/metrics"))
    for name in ("commit_seconds", "turn_units", "start_lag_seconds"):
        family = families[f"actor_scheduler_{name}"]
        buckets = [sample for sample in family.samples if sample.name.endswith("_bucket")]
        bounds = [float(sample.labels["le"]) for sample in buckets]
        counts = [sample.value for sample in buckets]
        assert bounds == sorted(set(bounds)) and bounds[-1] == float("inf")
        assert counts == sorted(counts)
        assert counts[-1] == value(families, f"{name}_count")
    assert value(families, "commit_seconds_sum") > 0


async def test_nothing_stored_becomes_a_label(site: Site, reader: httpx.AsyncClient) -> None:
    """Jobs of functions that are gone count under one name, whatever they were called with."""
    h = site.harness
    for text in CORPUS[:20]:
        await h.scheduler.run_now("notes:fail", {"message": str(text)})
    await h.settle()
    meter = site.app._started().meter
    meter.started('no:such"} 1\nfunction')
    families = parsed(await reader.get("/metrics"))
    assert value(families, "attempts_started_total", function="unknown") == 1
    assert value(families, "attempt_failures_total", function="notes:fail", cause="error") == 20


async def test_two_apps_have_their_own_figures() -> None:
    """Nothing is registered for the process: a second app doubles no figure, and mixes none."""
    registered = set(REGISTRY._names_to_collectors)
    first, second = make_app(), make_app()
    async with Harness(first) as h, Harness(second):
        await h.scheduler.run_now("notes:fail")
        await h.settle()
        found = []
        for app in (first, second):
            transport = httpx.ASGITransport(app=app.asgi(http=make_http()))
            headers = {"Authorization": f"Bearer {READ}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://testserver", headers=headers) as client:
                found.append(parsed(await client.get("/metrics")))
    assert [value(each, "attempts_started_total", function="notes:fail") for each in found] == [1, 0]
    assert set(REGISTRY._names_to_collectors) == registered


async def test_however_many_scrape_the_database_is_read_once_a_second(
    site: Site, reader: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A scrape in a loop must not cost the jobs anything. The second is an hour here, so that no machine is too slow."""
    reads = 0
    store = site.app._running().store
    query = store.query

    async def counting(body: Any, limit_us: int | None) -> Any:
        nonlocal reads
        reads += 1
        return await query(body, limit_us)

    assert metrics_module.READ_US == 1_000_000
    monkeypatch.setattr(metrics_module, "READ_US", 3_600_000_000)
    store.query = counting  # type: ignore[method-assign]
    await asyncio.gather(*(reader.get("/metrics") for _ in range(20)))
    assert reads == 1
    metrics_module._GLANCES[site.app._started()]._read_us -= 3_600_000_000
    await asyncio.gather(*(reader.get("/metrics") for _ in range(20)))
    assert reads == 2


async def test_a_database_that_fails_does_not_silence_the_rest(site: Site, reader: httpx.AsyncClient) -> None:
    """An app that is in trouble is what figures are for; and one that does not run says that it is not ready."""
    from actor_scheduler.errors import StoreUnavailable

    async def fails(*_: Any) -> Any:
        raise StoreUnavailable("disk I/O error")

    site.app._running().store.query = fails  # type: ignore[method-assign]
    families = parsed(await reader.get("/metrics"))
    assert "actor_scheduler_jobs" not in families
    assert value(families, "attempts_started_total", function="notes:add") == 0
    site.app._engine, engine = None, site.app._engine
    try:
        families = parsed(await reader.get("/metrics"))
    finally:
        site.app._engine = engine
    assert set(families) == {"actor_scheduler_ready"}
    assert value(families, "ready") == 0


async def test_the_loops_lag_is_measured_only_while_somebody_asks(site: Site, reader: httpx.AsyncClient) -> None:
    """An app that nobody watches is not woken for it."""
    probe = site.app._started().loop_lag
    assert probe._timer is None
    families = parsed(await reader.get("/metrics"))
    assert "actor_scheduler_loop_lag_seconds" not in families
    assert probe._timer is not None
    probe._timer.cancel()
    now_us = metrics_module.monotonic_us()
    probe._look(now_us - 3_000_000)  # it rang three seconds late
    assert 3 <= value(parsed(await reader.get("/metrics")), "loop_lag_seconds") < 60
    probe._timer.cancel()
    probe._asked_us = now_us - 91_000_000
    probe._look(now_us)
    assert probe._timer is None
