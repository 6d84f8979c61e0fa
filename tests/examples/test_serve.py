"""`make serve`: a shop that opens, whose dashboard its own key opens, and that leaves nothing behind when it is stopped."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import httpx

from examples.shop.serve import deploy_key

ROOT = Path(__file__).parents[2]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


async def test_the_shop_and_its_dashboard_open_and_close(tmp_path: Path) -> None:
    """Its customers buy; its key shows the jobs of their orders; SIGTERM ends the shop and the customers with it."""
    port = free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith("ACTOR_SCHEDULER")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "examples.shop.serve", "--port", str(port), "--customers", "20",
        cwd=tmp_path, env={**env, "PYTHONPATH": str(ROOT), "SHOP_DB": str(tmp_path / "shop.db")},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        said = [(await asyncio.wait_for(process.stdout.readline(), 60)).decode() for _ in range(5)]
        assert f"http://127.0.0.1:{port}/scheduler/dashboard" in "".join(said)
        key = (tmp_path / "shop.key").read_text().strip()
        assert key not in "".join(said)
        transport = httpx.AsyncHTTPTransport(retries=20)
        base = f"http://127.0.0.1:{port}/scheduler"
        async with httpx.AsyncClient(transport=transport, base_url=base, timeout=30) as client:
            assert "<html" in (await client.get("/dashboard")).text
            operator = {"Authorization": f"Bearer {key}"}
            async with client.stream("GET", "/admin/events", headers=operator) as events:
                async for line in events.aiter_lines():  # until an order's job was seen
                    if line.startswith("data:") and "orders:" in line:
                        break
            assert (await client.get("/admin/jobs", headers=operator)).json()["items"]
        process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 30)
        left = [entry for entry in Path("/proc").glob("[0-9]*/stat") if session_of(entry) == process.pid]
        assert left == []
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


def session_of(entry: Path) -> int:
    """Return the session that a process belongs to; 0 for one that has ended meanwhile."""
    try:
        return int(entry.read_text().rpartition(")")[2].split()[3])
    except OSError:
        return 0
