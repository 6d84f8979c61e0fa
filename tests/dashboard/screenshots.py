"""Pictures of the dashboard for the docs: `python -m tests.dashboard.screenshots`.

Runs the shop with customers in it until there is something to see, and writes docs/images/dashboard-*.png.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx
from playwright.sync_api import Browser, Page

from tests.dashboard.browsing import MISSING, browser, chromium

ROOT: Final = Path(__file__).parents[2]
IMAGES: Final = ROOT / "docs" / "images"
BYTES_MAX: Final = 200_000
DESK: Final = {"viewport": {"width": 1280, "height": 800}}
PHONE: Final = {"viewport": {"width": 360, "height": 780}}
SETTLED: Final = "() => document.querySelector('main h1') && !document.querySelector('main [aria-busy]') && document.querySelector('.live.live')"


def shots(failed: str) -> list[tuple[str, str, dict[str, Any], str]]:
    """Return the pictures: their names, places, sizes and themes."""
    return [
        ("overview", "#/", DESK, "light"), ("overview-dark", "#/", DESK, "dark"), ("overview-phone", "#/", PHONE, "light"),
        ("jobs", "#/jobs", DESK, "light"), ("jobs-dark", "#/jobs?state=failed", DESK, "dark"),
        ("jobs-phone", "#/jobs", PHONE, "dark"), ("job", f"#/jobs/{failed}", DESK, "light"),
        ("crons", "#/crons", DESK, "light"), ("crons-dark", "#/crons?name=sweep", DESK, "dark"),
        ("crons-phone", "#/crons", PHONE, "light"), ("health", "#/health", DESK, "light"),
    ]  # fmt: skip


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


def take(started: Browser, base: str, key: str) -> None:
    """Take all of them, and refuse one that is too large for a page of docs."""
    # A time zone of the docs' reader, not of the machine; and no letter that depends on who looks.
    for name, where, size, theme in shots(Admin(base, key).failed()):
        context = started.new_context(**size, color_scheme=theme, timezone_id="Europe/Paris", reduced_motion="reduce")
        page = context.new_page()
        _log_in(page, base, key)
        page.evaluate("where => { location.hash = where; }", where)
        page.wait_for_function(SETTLED)
        page.wait_for_timeout(2_500)
        # A traceback has the paths of the machine it was raised on.
        page.evaluate("() => document.querySelectorAll('main details').forEach((each) => { each.open = false; })")
        path = IMAGES / f"dashboard-{name}.png"
        page.screenshot(path=path)
        context.close()
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size:,} bytes")
        assert path.stat().st_size < BYTES_MAX


def _log_in(page: Page, base: str, key: str) -> None:
    page.goto(base)
    page.get_by_label("Key").fill(key)
    page.get_by_label("Key").press("Enter")
    page.wait_for_selector("nav")


class Admin:
    """The administration of the shop that is shown."""

    def __init__(self, base: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx.Client(base_url=base.removesuffix("/dashboard"), headers=headers, timeout=30)

    def failed(self) -> str:
        """Return the id of a job that has failed."""
        answer = self._http.get("/admin/jobs", params={"state": "failed", "limit": 1})
        return str(answer.raise_for_status().json()["items"][0]["id"])

    def do(self, what: str, **body: str) -> None:
        """Do something to a cron."""
        self._http.post(f"/admin/cron/{what}", json=body).raise_for_status()


def main() -> None:
    parser = argparse.ArgumentParser(description="Pictures of the dashboard, with customers in the shop.")
    parser.add_argument("--seconds", type=float, default=600, help="how long customers come before (600)")
    given = parser.parse_args()
    if chromium() is None:
        sys.exit(MISSING)
    key, port = secrets.token_urlsafe(32), free_port()
    IMAGES.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        environ = {
            **os.environ, "SHOP_DB": f"{folder}/shop.db", "ACTOR_SCHEDULER_DEPLOY_KEY": key, "SHOP_SWEEP_SECONDS": "20",
            "SHOP_HOUR_SECONDS": "45", "SHOP_GATEWAY_LATENCY_SECONDS": "1.5", "SHOP_GATEWAY_FAILURES": "0.15",
            "SHOP_REMIND_SECONDS": "1500",
        }  # fmt: skip
        command = [sys.executable, "-m", "examples.shop.serve", "--port", str(port), "--customers", "1.5"]
        shop = subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            base = f"http://127.0.0.1:{port}/scheduler/dashboard"
            with browser() as started:
                page = started.new_page()
                page.wait_for_timeout(given.seconds * 400)
                admin = Admin(base, key)
                admin.do("run", name="daily digest")
                admin.do("pause", name="daily digest", note="until the mail provider is back (Ada)")
                admin.do("pause", name="sweep", note="the disk is being changed")
                page.wait_for_timeout(given.seconds * 200)
                admin.do("resume", name="sweep")
                page.wait_for_timeout(given.seconds * 400)
                page.close()
                take(started, base, key)
        finally:
            shop.send_signal(signal.SIGINT)
            shop.wait(30)


if __name__ == "__main__":
    main()
