"""What has struck others, one test for each: the class of the weakness, and the cases it is known by."""

from __future__ import annotations

import pickle
from typing import Any

import httpx
import pytest

from actor_scheduler import codec
from actor_scheduler.errors import InvalidArgs
from runtime import App, AuthRequest, FunctionError, Http, InvalidSecret, MutationCtx, Namespace, Secrets
from runtime.testing import Harness
from tests.http.conftest import DISPATCH, OPERATE, Site, cookie_at, make_http
from tests.layout.test_layout import PACKAGES, imports, sources

SCRIPT = "</script><script>alert(1)</script>"


async def test_stored_script_comes_back_as_data(site: Site, operator: httpx.AsyncClient) -> None:
    """Sidekiq #1297, #2309, #4852, GHSA-h3r8-h5qw-4r35; que-web #9; CVE-2022-44303; CVE-2024-25122."""
    job_id = await site.app.scheduler.run_now("notes:fail", {"message": SCRIPT}, key=SCRIPT)
    await site.harness.settle()
    for address in (f"/admin/jobs/{job_id}", "/admin/jobs", "/admin/stats"):
        response = await operator.get(address)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-disposition"].startswith("attachment")
        assert SCRIPT in str(response.json())


async def test_a_form_of_another_site_changes_nothing(site: Site) -> None:
    """Sidekiq #2422: a dashboard's buttons were plain forms. Here a cookie alone changes nothing."""
    sessions = site.asgi.routes[0].endpoint._doors._guard.sessions
    assert site.http.operate is not None
    token = sessions.begin("operate", site.http.operate.match(OPERATE))
    async with site.client(None) as victim:
        for headers in ({"content-type": "application/x-www-form-urlencoded"}, {"content-type": "text/plain"}):
            cookie = {"cookie": f"{cookie_at('testserver')}={token}", "origin": "https://evil.example"}
            response = await victim.post("/admin/pause", headers={**headers, **cookie}, content=b'{"note": "x"}')
            assert response.status_code in {403, 415}
    assert site.app.scheduler.paused is None


async def test_without_configuration_there_is_nothing_to_probe_for(site: Site) -> None:
    """Flower and others answer to anybody unless told otherwise; scanners ship the paths of dashboards."""
    closed = site.app.asgi(http=Http())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=closed), base_url="http://testserver") as anybody:
        for address in ("/admin/jobs", "/admin/stats", "/dashboard", "/metrics", "/tick", "/schedules", "/sidekiq"):
            assert (await anybody.get(address)).status_code == 404


class Bomb:
    """Were it ever unpickled, it would say so."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled",)


def test_what_is_stored_is_never_brought_to_life() -> None:
    """Rq #2389, huey #901, arq, Celery: pickle; APScheduler CVE-2026-31072: type tags in JSON and CBOR."""
    data = pickle.dumps(Bomb())
    assert codec.decode(codec.encode({"data": data})) == {"data": data}
    for tagged in ({"__type__": "os.system", "args": ["id"]}, {"py/object": "os.system"}, {"$type": "os:system"}):
        assert codec.decode(codec.encode(tagged)) == tagged
    for extension in (b"\xd4\x01x", b"\xc7\x03\x42abc", b"\xd8\x05" + b"x" * 16):
        with pytest.raises(InvalidArgs):
            codec.decode(extension)
    modules = {module for tree in sources(*PACKAGES).values() for module, _ in imports(tree)}
    assert not {"pickle", "marshal", "shelve", "dill", "jsonpickle", "yaml"} & modules


async def test_nothing_runs_before_it_is_known_who_asks() -> None:
    """Langflow CVE-2025-3248: what was sent was executed, then authorization was looked at."""
    seen: list[str] = []
    notes = Namespace("notes")

    @notes.mutation(access="public")
    async def add(ctx: MutationCtx[Any], *, text: str) -> None:
        seen.append(text)

    async def nobody(request: AuthRequest) -> str | None:
        if request.invoker.source == "rpc":
            raise FunctionError("UNAUTHORIZED", "log in first")
        return None

    async def body() -> Any:
        seen.append("the body was read")
        yield b"{}"

    app = App[Any]("app.db", auth=nobody, namespaces=[notes])
    async with Harness(app):
        transport = httpx.ASGITransport(app=app.asgi(http=make_http()))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            json = {"content-type": "application/json"}
            assert (await client.post("/rpc/notes:add", content=body(), headers=json)).status_code == 401
            assert (await client.post("/rpc/notes:none", json={})).status_code == 401
            assert (await client.post("/admin/call", json={"path": "notes:add", "args": {}})).status_code == 401
    assert seen == []


def test_the_server_requests_nothing_from_anywhere() -> None:
    """Mlflow #24179, oneuptime #2578 and others: callbacks were sent where a stranger wanted. Here there are none."""
    talkers = {"httpx", "requests", "aiohttp", "urllib.request", "http.client", "socket", "smtplib", "urllib3"}
    users = {
        path
        for path, tree in sources(*PACKAGES).items()
        if any(module in talkers for module, _ in imports(tree)) and not path.startswith("runtime/cli/")
    }
    assert users == set()


async def test_a_clocks_secret_is_not_compared_by_its_beginning_and_not_accepted_when_weak(site: Site) -> None:
    """The usual advice for cron secrets: 16 characters, `!==`, and none at all in development."""
    for weak in ("", "0123456789abcdef", "dev", "development-development-development"):
        with pytest.raises(InvalidSecret):
            Secrets(weak)
    async with site.client(None) as client:
        for wrong in (DISPATCH[:-1], DISPATCH + "x", DISPATCH.upper(), "", "undefined", "null", "\u00e9" * 32):
            header = {"authorization": f"Bearer {wrong}".encode("latin-1")}
            assert (await client.post("/schedules/outside/hourly/dispatch", headers=header)).status_code == 401


@pytest.mark.parametrize(
    "data",
    [b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\x91" * 500],
)
def test_a_claim_of_size_allocates_nothing(data: bytes) -> None:
    """Starlette #2155, and msgpack's headers that promise four thousand million values."""
    with pytest.raises(InvalidArgs):
        codec.decode(data)
