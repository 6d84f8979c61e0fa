"""Health: up or down, for anybody, and not a word about why."""

from __future__ import annotations

from typing import Any

import httpx

from runtime.testing import Harness
from tests.http.conftest import Site, make_app, make_http


async def test_it_is_alive_and_ready(anybody: httpx.AsyncClient) -> None:
    """A load balancer has no secret."""
    alive, ready = await anybody.get("/healthz"), await anybody.get("/readyz")
    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
    assert alive.headers["cache-control"] == "no-store"


async def test_a_paused_app_is_ready(site: Site, anybody: httpx.AsyncClient) -> None:
    """It takes calls, and an operator wanted it so: restarting it would help nobody."""
    await site.harness.scheduler.pause("deploying")
    assert (await anybody.get("/readyz")).status_code == 200


async def test_what_is_wrong_is_not_told_to_everybody(site: Site, anybody: httpx.AsyncClient) -> None:
    """Paths and errors of the database stand in the stats, behind a secret."""
    from actor_scheduler.errors import StoreUnavailable

    actor = site.app._running().actor
    actor.broken = StoreUnavailable("/srv/secret/app.db: disk I/O error")
    try:
        ready = await anybody.get("/readyz")
        assert (await anybody.get("/healthz")).status_code == 200
    finally:
        actor.broken = None
    assert (ready.status_code, ready.json()) == (503, {"status": "not ready"})


async def test_an_app_that_does_not_run_is_alive_and_not_ready() -> None:
    """Before its lifespan, and after it."""
    app: Any = make_app()
    asgi = app.asgi(http=make_http())
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=asgi), base_url="http://testserver") as client:
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 503]
        async with Harness(app):
            assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        assert [(await client.get(path)).status_code for path in ("/healthz", "/readyz")] == [200, 503]
