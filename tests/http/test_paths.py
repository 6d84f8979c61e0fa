"""Paths that look like others: nothing behind a door is reached by another spelling than its own."""

from __future__ import annotations

from urllib.parse import unquote

import pytest

from tests.http.conftest import Site


@pytest.mark.parametrize(
    "address",
    [
        "/admin/stats%0A",
        "/healthz%0A",
        "/admin%2Fstats%00",
        "/ADMIN/stats",
        "//admin/stats",
        "/admin//stats",
        "/admin/./stats",
        "/healthz/../admin/stats",
        "/healthz/%2e%2e/admin/stats",
        "/dashboard/../admin/stats",
        "/dashboard/..%2f..%2fpyproject.toml",
        "/dashboard/%2e%2e%2froutes.py",
        "/dashboard/index.html",
        "/dashboard/.hidden",
        "/rpc/notes:count%0A",
        "/;/admin/stats",
        "/admin/stats;x=1",
    ],
)
async def test_another_spelling_leads_nowhere(address: str, site: Site) -> None:
    """As ASGI servers pass it on: decoded once, and not tidied up."""
    scope = {
        "type": "http", "method": "GET", "path": unquote(address), "raw_path": address.encode(), "query_string": b"",
        "headers": [], "scheme": "http", "root_path": "", "http_version": "1.1", "server": ("testserver", 80),
        "client": ("192.0.2.1", 1),
    }  # fmt: skip
    sent: list[dict[str, object]] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    await site.asgi(scope, receive, send)
    assert sent[0]["status"] in ({404} if "%0A" in address else {401, 404, 405})


async def test_the_dashboard_is_one_page_whatever_slash_is_behind_it(site: Site) -> None:
    """What it loads is named relative to it, so that it works wherever it is mounted."""
    async with site.client(None) as client:
        assert (await client.get("/dashboard")).status_code == 200
        moved = await client.get("/dashboard/")
        assert (moved.status_code, moved.headers["location"]) == (307, "../dashboard")
        assert moved.next_request is not None
        assert moved.next_request.url.path == "/dashboard"
