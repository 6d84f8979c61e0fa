"""The examples of FastAPI, Starlette and Litestar, each as a real server process; and the surface mounted in each."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi import FastAPI
from litestar import Litestar, asgi
from starlette.applications import Starlette
from starlette.routing import Mount

from runtime.testing import Harness
from tests.http.conftest import DISPATCH, OPERATE, make_app, make_http

ROOT = Path(__file__).parents[2]
FRAMEWORKS = ("fastapi", "starlette", "litestar")
PATIENCE = httpx.Timeout(60.0)

# The socket is bound and listens before the server is there, so that a client just connects and waits.
SERVE = """
import socket, sys, uvicorn
config = uvicorn.Config(sys.argv[1], log_level="info", timeout_graceful_shutdown=10)
uvicorn.Server(config).run(sockets=[socket.socket(fileno=int(sys.argv[2]))])
"""


class Server(NamedTuple):
    client: httpx.Client
    process: subprocess.Popen[str]


@contextlib.contextmanager
def serving(example: str, folder: Path) -> Iterator[Server]:
    """Serve an example in a process of its own, for as long as the block runs."""
    environ = {
        **os.environ,
        "NOTES_DB": str(folder / "notes.db"),
        "ACTOR_SCHEDULER_DEPLOY_KEY": OPERATE,
        "ACTOR_SCHEDULER_DISPATCH_SECRET": DISPATCH,
        "PYTHONWARNINGS": "ignore",
    }
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        door.listen()
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, f"examples.{example}_app:api", str(door.fileno())],
            cwd=ROOT, env=environ, pass_fds=[door.fileno()], stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        url = f"http://127.0.0.1:{door.getsockname()[1]}"
    try:
        with httpx.Client(base_url=url, timeout=PATIENCE, trust_env=False) as client:
            yield Server(client, process)
    finally:
        process.kill()
        process.communicate()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def until_reviewed(lines: Iterator[str]) -> dict[str, Any]:
    """Read events until a note was reviewed."""
    for line in lines:
        if line.startswith("data:"):
            event: dict[str, Any] = json.loads(line.removeprefix("data:"))
            if event.get("path") == "notes:review" and event.get("state") == "success":
                return event
    raise AssertionError("the stream ended before the note was reviewed")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_example_does_what_it_says_in_a_process_of_its_own(framework: str, tmp_path: Path) -> None:
    """Own routes, calls, an outside clock, the administration, the dashboard, a scheduled run, and a clean end."""
    with serving(framework, tmp_path) as (client, process):
        assert client.get("/scheduler/healthz").json() == {"status": "alive"}
        assert client.get("/scheduler/readyz").status_code == 200
        with client.stream("GET", "/scheduler/admin/events", headers=bearer(OPERATE)) as events:
            assert events.status_code == 200
            assert client.post("/notes", json={"text": "from a route"}).json() == {"id": 1}
            called = client.post("/scheduler/rpc/notes:add", json={"text": "over RPC"})
            assert (called.status_code, called.json()) == (200, {"result": 2})
            until_reviewed(events.iter_lines())  # of both notes: each says so
        notes = client.get("/notes").json()
        assert [note["text"] for note in notes] == ["over RPC", "from a route"]
        assert client.post("/scheduler/rpc/notes:tidy", json={}).status_code == 404  # internal

        assert client.post("/scheduler/schedules/nightly/dispatch").status_code == 401
        dispatched = client.post("/scheduler/schedules/nightly/dispatch", headers=bearer(DISPATCH))
        assert dispatched.status_code == 200, dispatched.text  # no tick since it was defined, so it is told why
        assert dispatched.json()["reason"] == "before_definition"
        assert client.get("/scheduler/tick", headers=bearer(DISPATCH)).status_code == 200

        assert client.get("/scheduler/admin/stats").status_code == 401
        stats = client.get("/scheduler/admin/stats", headers=bearer(OPERATE)).json()
        assert stats["ready"] is True
        page = client.get("/scheduler/dashboard")
        assert (page.status_code, page.headers["content-type"].partition(";")[0]) == (200, "text/html")
        assert client.get("/scheduler/openapi.json").json()["servers"] == [{"url": "/scheduler"}]

        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode in (0, -signal.SIGTERM), said  # uvicorn ends itself by the signal it was sent
    assert "Traceback" not in said
    assert "Finished server process" in said
    assert not (tmp_path / "notes.db-wal").exists()  # closed in order: everything is in the file


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_a_clock_is_a_line_of_curl_that_shows_no_secret(tmp_path: Path) -> None:
    """The recipes of docs/http.md: the header comes from a file, so that no list of processes has it."""
    header = tmp_path / "dispatch.header"
    header.write_text(f"Authorization: Bearer {DISPATCH}\n", "ascii")
    with serving("starlette", tmp_path) as (client, _):
        for path in ("/scheduler/tick", "/scheduler/schedules/nightly/dispatch"):
            command = ["curl", "-fsS", "-m", "60", "-X", "POST", "-H", f"@{header}", f"{client.base_url}{path}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            assert "status" in json.loads(done.stdout) or "next_at" in json.loads(done.stdout)


# ------------------------------------------------------------------ mounted anywhere


def in_fastapi(surface: Any, where: str) -> Any:
    api = FastAPI()
    api.mount(where, surface)
    return api


def in_starlette(surface: Any, where: str) -> Any:
    return Starlette(routes=[Mount(where, app=surface)])


def in_litestar(surface: Any, where: str) -> Any:
    @asgi(where, is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await surface(scope, receive, send)

    return Litestar([mounted], logging_config=None)


def nested_in_starlette(surface: Any, where: str) -> Any:
    return Starlette(routes=[Mount(where, app=Starlette(routes=[Mount("/", app=surface)]))])


PLACES = ["/", "/scheduler", "/a/b"]
MOUNTS = [in_fastapi, in_starlette, in_litestar, nested_in_starlette]


@pytest.fixture
async def harness() -> AsyncIterator[Harness[Any]]:
    async with Harness(make_app()) as harness:
        yield harness


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("mount", MOUNTS, ids=lambda mount: mount.__name__)
async def test_the_surface_can_be_mounted_anywhere(
    harness: Harness[Any], mount: Callable[[Any, str], Any], where: str
) -> None:
    api = mount(harness.app.asgi(http=make_http()), where)
    base = "http://testserver" + where.rstrip("/")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), headers=bearer(OPERATE)) as client:
        added = await client.post(f"{base}/rpc/notes:add", json={"text": "a"})
        assert (added.status_code, added.json()) == (200, {"result": 1})
        assert (await client.get(f"{base}/healthz")).json() == {"status": "alive"}
        assert (await client.get(f"{base}/admin/jobs?limit=1")).status_code == 200
        assert (await client.get(f"{base}/openapi.json")).status_code == 200
        assert (await client.get(f"{base}/dashboard")).status_code == 200
        assert (await client.put(f"{base}/rpc/notes:add")).status_code == 405
        assert (await client.get(f"{base}/nothing")).json()["error"]["code"] == "NOT_FOUND"
        for name in ("outside/hourly", "outside%2Fhourly"):
            url = f"{base}/schedules/{name}/dispatch"
            dispatched = await client.post(url, headers=bearer(DISPATCH))
            assert dispatched.json()["schedule"] == "outside/hourly"


async def test_a_prefix_is_for_servers_that_pass_whole_paths_on(harness: Harness[Any]) -> None:
    transport = httpx.ASGITransport(app=harness.app.asgi(prefix="/jobs", http=make_http()))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        assert (await client.post("/jobs/rpc/notes:count", json={})).json() == {"result": 0}
        assert (await client.post("/rpc/notes:count", json={})).status_code == 404
        assert (await client.get("/jobs/openapi.json")).json()["servers"] == [{"url": "/jobs"}]
