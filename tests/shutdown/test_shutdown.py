"""SIGTERM and SIGINT at any moment, to real servers under load: they leave in time, and leave nothing behind.

SHUTDOWN_SEED and SHUTDOWN_CYCLES choose another run; `python -m tests.shutdown --cycles 300 --seed 1` is the long one.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from tests.crash.checker import Rule
from tests.crash.history import Ask, Body, plain
from tests.crash.lives import ROOT, Nursery
from tests.crash.plan import Plan
from tests.shutdown.campaign import KINDS, Kind, Report, plan_stops, run, stop_one
from tests.shutdown.server import make_api

SEED = int(os.environ.get("SHUTDOWN_SEED", "1"))
CYCLES = int(os.environ.get("SHUTDOWN_CYCLES", "24"))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The campaign, run once for all the tests here."""
    return run(SEED, CYCLES, tmp_path_factory.mktemp("shutdown"))


def _wrong(report: Report, kind: str) -> list[str]:
    return [what for name, what in report.troubles if name == kind]


def _broken(report: Report, *rules: Rule) -> list[Any]:
    return [violation for _, violation in report.violations if violation.rule in rules]


# ------------------------------------------------------------------ the campaign


@pytest.mark.parametrize("kind", ["S1 SIGTERM", "S1 SIGINT"])
def test_s1_a_stopped_server_leaves_in_time_and_in_good_order(report: Report, kind: str) -> None:
    """The lifespan ends, uvicorn's status is the usual one, the log is folded in, and no job is left in progress."""
    assert _wrong(report, kind) == [], report.text()


def test_s1_no_effect_is_doubled_and_no_action_started_twice(report: Report) -> None:
    """However a server was stopped, its successors carry on without repeating anything."""
    assert _broken(report, Rule.DOUBLED, Rule.SPLIT, Rule.STARTED_TWICE, Rule.JOB_DOUBLED) == [], report.text()


@pytest.mark.parametrize("kind", ["S2 SIGTERM twice", "S2 SIGINT twice"])
def test_s2_a_second_signal_ends_it_no_worse(report: Report, kind: str) -> None:
    """A second SIGTERM changes nothing; a second SIGINT cancels the lifespan under us, and the process still ends."""
    assert _wrong(report, kind) == [], report.text()


def test_s3_what_was_acknowledged_is_durable_and_what_was_refused_is_absent(report: Report) -> None:
    """Also for the calls that were answered after the signal: there are such."""
    assert report.violations == [], report.text()
    assert report.counts["answers after the signal"] > 0, report.text()


def test_s4_a_server_stopped_in_its_start_leaves_nothing_half_done(report: Report) -> None:
    """Before it was up, or a moment later: the next one starts, and nothing is missing."""
    assert _wrong(report, "S4 SIGTERM while starting") == [], report.text()
    assert _wrong(report, "the last app") == [], report.text()


@pytest.mark.parametrize(
    "what",
    ["answers: ack", "jobs: success", "jobs: failed (interrupted)", "action starts", "stopped in good order"],
)
def test_the_campaign_meets_what_it_is_about(report: Report, what: str) -> None:
    """The load is not vacuous: jobs ran, and actions were interrupted."""
    assert report.counts[what] > 0, report.text()


@pytest.mark.parametrize("total", [5, 24, 300])
def test_a_plan_has_every_kind_and_as_many_stops_as_asked_for(total: int) -> None:
    """Whatever the size, no kind is left out, and the same seed gives the same plan."""
    series = plan_stops(SEED, total)
    assert {stop.kind for stops in series for stop in stops} == set(KINDS)
    assert sum(map(len, series)) == total
    assert series == plan_stops(SEED, total)


# ------------------------------------------------------------------ single cases


@pytest.mark.parametrize("kind", KINDS[:2], ids=lambda kind: kind.name.removeprefix("S1 "))
def test_s1_an_action_that_never_gives_in_is_left_behind(kind: Kind, tmp_path: Path) -> None:
    """It swallows every cancellation; the process ends all the same, and the job is told as interrupted."""
    stubborn = Body("stubborn", kind="action", nap_us=60_000_000, stubborn_us=60_000_000)
    plan = Plan(db=str(tmp_path / "app.db"), starts=str(tmp_path / "starts"), grace_s=0.1)
    with Nursery(tmp_path / "log", "tests.shutdown.server") as nursery:
        report = stop_one(
            plan, kind, [Ask("stubborn", "schedule", (stubborn,)), Ask("a", "live", (Body("a"),))], nursery
        )
    assert report.troubles == []
    with closing(sqlite3.connect(tmp_path / "app.db")) as file:
        assert file.execute("SELECT state, cause FROM _scheduler_jobs").fetchall() == [("failed", "interrupted")]


@contextmanager
def _uvicorn(db: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run uvicorn from its command line, as a user does; give the process and its address."""
    command = [sys.executable, "-m", "uvicorn", "--factory", "tests.shutdown.server:from_environment", "--port", "0"]
    with subprocess.Popen(
        [*command, *options], cwd=ROOT, env={**os.environ, "SHUTDOWN_DB": str(db)}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            url = next(found[0] for line in process.stderr if (found := re.search(r"http://[\d.:]+", line)))
            yield process, url
        finally:
            process.kill()


def _schedule(url: str, op: str, **body: Any) -> httpx.Response:
    ask = Ask(op, "schedule", (Body(op, **body),))
    return httpx.post(f"{url}/ask", json=plain(ask), timeout=30, trust_env=False)


def test_s1_uvicorn_from_the_command_line_stops_as_the_forked_one(tmp_path: Path) -> None:
    """SIGTERM, while an action sleeps past its grace: everything is told, and no log is left."""
    db = tmp_path / "app.db"
    with _uvicorn(db) as (process, url):
        for op, body in (("sleeper", {"kind": "action", "nap_us": 60_000_000}), ("later", {"delay_us": 60_000_000})):
            assert _schedule(url, op, **body).status_code == 200
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
        assert process.returncode == -signal.SIGTERM
    wal = tmp_path / "app.db-wal"
    assert not wal.exists() or not wal.stat().st_size
    with closing(sqlite3.connect(db)) as file:
        rows = file.execute("SELECT state, cause FROM _scheduler_jobs ORDER BY seq").fetchall()
    assert rows == [("failed", "interrupted"), ("pending", None)]


def test_s5_a_server_without_lifespan_refuses_every_call(tmp_path: Path) -> None:
    """With `uvicorn --lifespan off`: 503 with the reason, never a scheduler that forgets what it was told."""
    db = tmp_path / "app.db"
    with _uvicorn(db, "--lifespan", "off") as (_, url):
        refused = _schedule(url, "a")
    assert refused.status_code == 503
    assert refused.json()["value"] == "NotStarted"
    assert not db.exists()


async def test_s5_a_mounted_app_whose_lifespan_is_not_run_refuses_every_call(tmp_path: Path) -> None:
    """Frameworks do not run the lifespan of a mounted app: its calls say so instead of being forgotten."""
    db = tmp_path / "app.db"
    outer = FastAPI()
    outer.mount("/inner", make_api(Plan(db=str(db), starts=str(tmp_path / "starts")), lambda *_: None))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=outer), base_url="http://test") as client:
        refused = await asyncio.wait_for(
            client.post("/inner/ask", json=plain(Ask("a", "live", (Body("a"),)))), timeout=30
        )
    assert refused.status_code == 503
    assert refused.json()["value"] == "NotStarted"
    assert not db.exists()
