"""The page about HTTP: its example runs, and its errors and settings are those that there are."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from runtime.http.answers import _BY_CLASS
from runtime.http.options import Http
from runtime.http.tables import TABLES
from runtime.testing import Harness
from tests.docs.test_readme import ROOT, blocks

PAGE = ROOT / "docs" / "http.md"
KEYS = {"BILLING_KEY": "billing-Zk3vQ8wL1xN7pT5yR2uB9cD4", "CRON_SECRET": "clock-Hs6jM0fG8aE2oK4iV7qW1zX3aB"}


@pytest.fixture
def page(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the page's example."""
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    (example,) = blocks(PAGE)
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(example, "http.md", "exec", dont_inherit=True), names)
    return names


def bearer(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


async def test_the_clock_is_let_in_and_the_run_acts_as_the_system(page: dict[str, Any]) -> None:
    async with Harness(page["app"]) as harness:
        transport = httpx.ASGITransport(app=page["surface"])
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            called = await client.post("/rpc/invoices:send", json={}, headers=bearer("BILLING_KEY"))
            assert called.json() == {"result": "sent by billing, asked for by rpc"}
            for headers, status in (({}, 403), (bearer("CRON_SECRET"), 401)):  # a clock's secret is nobody's identity
                refused = await client.post("/rpc/invoices:send", json={}, headers=headers)
                assert refused.status_code == status
            assert (await client.post("/schedules/monthly/dispatch", headers=bearer("BILLING_KEY"))).status_code == 401
            await harness.advance(timedelta(days=40))
            dispatched = await client.post("/schedules/monthly/dispatch", headers=bearer("CRON_SECRET"))
            assert dispatched.status_code == 202
            await harness.settle()
            job = await harness.scheduler.get(dispatched.json()["job_id"])
            assert job is not None
            assert job.result == "sent by system, asked for by cron"


def test_the_page_names_every_code_that_a_call_can_answer_with() -> None:
    text = PAGE.read_text("utf-8")
    codes = {code for _, _, code in _BY_CLASS} - {"INVALID_CRON", "UNKNOWN_CRON", "FORBIDDEN"}
    assert {code for code in codes if f"`{code}`" not in text} == set()


def test_the_page_names_every_path_that_is_not_for_operators() -> None:
    text = PAGE.read_text("utf-8")
    paths = {route.path for route in TABLES if route.door in {"open", "rpc", "dispatch"}} | {"/metrics"}
    shown = {
        "/rpc/{path}": "/rpc/{namespace:function}",
        "/schedules/{name:path}/dispatch": "/schedules/{name}/dispatch",
    }
    assert {path for path in paths if shown.get(path, path) not in text} == set()


def test_the_environment_it_names_is_the_one_that_is_read() -> None:
    named = set(re.findall(r"`(ACTOR_SCHEDULER_\w+)`", PAGE.read_text("utf-8")))
    secret = "Zk3vQ8wL1xN7pT5yR2uB9cD4Hs6jM0fG"
    for name in named:
        made = Http.from_env({name: secret})
        assert made.administered or made.dispatched, name
