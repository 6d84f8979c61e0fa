"""What the README shows is run, as it stands there."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from runtime.testing import Harness

ROOT = Path(__file__).parents[2]


def blocks(path: Path) -> list[str]:
    """Return the Python of a page, block by block."""
    return re.findall(r"^```python\n(.*?)^```$", path.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def readme() -> dict[str, Any]:
    """The names that the README's first example makes."""
    names: dict[str, Any] = {"__name__": "readme"}
    exec(compile(blocks(ROOT / "README.md")[0], "README.md", "exec", dont_inherit=True), names)
    return names


async def test_the_first_example_serves_and_schedules(readme: dict[str, Any]) -> None:
    """A POST starts a trial, and its job expires it after thirty days."""
    async with Harness(readme["app"]) as h:
        transport = httpx.ASGITransport(app=readme["api"])
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            answer = await client.post("/trials/7")
        job = await h.scheduler.get(answer.json()["expires_by_job"])
        assert job is not None
        assert (job.path, job.args, job.state) == ("trials:expire", {"user_id": 7}, "pending")
        await h.advance(days=29)
        assert await h.pending("trials:expire")
        done = await h.advance(days=1)
        assert [(job.path, job.state) for job in done] == [
            ("trials:expire", "success"),
            ("trials:send_mail", "success"),
        ]


async def test_the_test_example_passes(readme: dict[str, Any]) -> None:
    """The README's own test is a test that passes."""
    (example,) = [block for block in blocks(ROOT / "README.md") if "Harness" in block]
    exec(compile(example, "README.md", "exec", dont_inherit=True), readme)
    await readme["test_a_trial_expires_after_a_month"]()
    assert readme["app"].unready_reason == "the app is not running"


async def test_the_crons_tick(readme: dict[str, Any]) -> None:
    """Those of the code, and one that a user registers; none does in an app that is not started."""
    (example,) = [block for block in blocks(ROOT / "README.md") if "app.crons.cron(" in block]
    exec(compile(example, "README.md", "exec", dont_inherit=True), readme)
    app = readme["app"]
    async with Harness(app, start=datetime(2026, 3, 27, tzinfo=UTC)) as h:  # the Friday before Paris changes its clock
        await h.call(readme["remind_me"], user_id=7, zone="America/New_York")
        await h.advance(days=4)
        ticks = {name: [str(run.tick) for run in await app.crons.runs(name)] for name in ("morning mail", "reminder/7")}
        assert ticks == {
            "morning mail": ["2026-03-30 06:00:00+00:00", "2026-03-27 07:00:00+00:00"],
            "reminder/7": ["2026-03-30 13:00:00+00:00"],
        }
        await h.restart(down_for=3_600)
        (skipped,) = [run for run in await app.crons.runs("sweep") if run.state == "skipped"]
        assert (skipped.reason, skipped.skipped) == ("policy", 11)


async def test_the_surface_is_mounted_and_only_the_key_opens_it(
    readme: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one line serves the dashboard and the administration to who has the key, and to nobody else."""
    key = "readme-7nVq2LxZp0aYtR4uWc8sEe1dKfGhJm"
    monkeypatch.setenv("ACTOR_SCHEDULER_DEPLOY_KEY", key)
    (example,) = [block for block in blocks(ROOT / "README.md") if "app.asgi()" in block]
    exec(compile(example, "README.md", "exec", dont_inherit=True), readme)
    async with Harness(readme["app"]):
        transport = httpx.ASGITransport(app=readme["api"])
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            asked = [(await client.get(f"/scheduler{path}")).status_code for path in ("/dashboard", "/admin/stats")]
            told = await client.get("/scheduler/admin/stats", headers={"Authorization": f"Bearer {key}"})
            closed = await client.post("/scheduler/tick")
            assert (await client.post("/trials/7")).status_code == 200
    assert asked == [200, 401]
    assert (told.status_code, told.json()["ready"]) == (200, True)
    assert closed.status_code == 404


def test_the_example_is_short() -> None:
    """It fits a screen: at most 30 lines, blank ones included."""
    assert len(blocks(ROOT / "README.md")[0].splitlines()) <= 30


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page leads to a file of the repository."""
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text("utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
