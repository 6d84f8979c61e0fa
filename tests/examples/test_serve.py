"""`make serve`: a shop that opens, whose dashboard its own key opens, and that leaves nothing behind when it is stopped."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import stat
import sys
from pathlib import Path

import httpx
import pytest

from examples.shop.serve import deploy_key

ROOT = Path(__file__).parents[2]


RUNNING = re.compile(r"http://127\.0\.0\.1:\d+")


def test_the_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        file = deploy_key(tmp_path / "key")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    key = file.read_text()
    assert len(key.strip()) >= 32
    assert deploy_key(file).read_text() == key


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
async def test_the_shop_and_its_dashboard_open_and_close(tmp_path: Path, end: signal.Signals) -> None:
    """Its customers buy; its key shows the jobs of their orders; a signal ends the shop and the customers with it.

    It answers when it says where it is, and both ways to stop it are a good end.
    """
    process = await start(tmp_path, "--port", "0", "--customers", "20", SHOP_CANCEL_SECONDS="1")
    try:
        assert process.stdout is not None
        said = "".join([(await asyncio.wait_for(process.stdout.readline(), 60)).decode() for _ in range(5)])
        found = RUNNING.search(said)
        assert found is not None
        assert f"{found[0]}/scheduler/dashboard" in said
        key = (tmp_path / "shop.key").read_text().strip()
        assert key not in said
        async with httpx.AsyncClient(base_url=f"{found[0]}/scheduler", timeout=30) as client:
            assert "<html" in (await client.get("/dashboard")).text
            operator = {"Authorization": f"Bearer {key}"}
            async with client.stream("GET", "/admin/events", headers=operator) as events:
                async for line in events.aiter_lines():  # until an order's job was seen
                    if line.startswith("data:") and "orders:" in line:
                        break
            assert (await client.get("/admin/jobs", headers=operator)).json()["items"]
        process.send_signal(end)
        assert await asyncio.wait_for(process.communicate(), 30) == (b"", b"")
        assert process.returncode == 0
        left = [entry for entry in Path("/proc").glob("[0-9]*/stat") if session_of(entry) == process.pid]
        assert left == []
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


@pytest.mark.parametrize(
    ("said", "env"),
    [
        ("is taken", {}),
        ("does not exist", {"SHOP_DB": "nowhere/shop.db"}),
        ("ACTOR_SCHEDULER_DEPLOY_KEY", {"ACTOR_SCHEDULER_DEPLOY_KEY": "short"}),
    ],
)
async def test_a_shop_that_does_not_open_says_why_in_one_line(tmp_path: Path, said: str, env: dict[str, str]) -> None:
    """A taken port, a file that can't be used, a key that is none: no traceback, and no words about where it would be."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = 0 if env else taken.getsockname()[1]
        process = await start(tmp_path, "--port", str(port), **env)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, out) == (1, b"")
    assert said in err.decode()
    assert err.count(b"\n") == 1
    assert (tmp_path / "shop.key").exists() == ("SHOP_DB" in env)


async def start(folder: Path, *words: str, **env: str) -> asyncio.subprocess.Process:
    """Start the shop in a session of its own."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("ACTOR_SCHEDULER")}
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.shop.serve", *words,
        cwd=folder, env={**known, "PYTHONPATH": str(ROOT), "SHOP_DB": str(folder / "shop.db"), **env},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def session_of(entry: Path) -> int:
    """Return the session that a process belongs to; 0 for one that has ended meanwhile."""
    try:
        return int(entry.read_text().rpartition(")")[2].split()[3])
    except OSError:
        return 0
