"""How tests of the administration ask: a document or a failure that shows the answer, and whole lists."""

from __future__ import annotations

from typing import Any, TypeAlias

import httpx

Json: TypeAlias = dict[str, Any]


async def got(client: httpx.AsyncClient, path: str, status: int = 200, **params: Any) -> Json:
    """Return the document of an answer with this status; a parameter that is None is left out."""
    answer = await client.get(path, params={name: each for name, each in params.items() if each is not None})
    assert answer.status_code == status, answer.text
    document: Json = answer.json()
    return document


async def sent(client: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> Json:
    """Return the document of an answer with this status."""
    answer = await client.post(path, json=body if body is not None else {})
    assert answer.status_code == status, answer.text
    document: Json = answer.json()
    return document


async def walk(client: httpx.AsyncClient, path: str = "/admin/jobs", **params: Any) -> list[Json]:
    """Return every item of a list, page by page."""
    items: list[Json] = []
    cursor = None
    while True:
        page = await got(client, path, cursor=cursor, **params)
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return items


async def audit(client: httpx.AsyncClient) -> list[tuple[str, str, str]]:
    """Return what is on record, the newest first."""
    return [(deed["action"], deed["target"], deed["result"]) for deed in (await got(client, "/admin/audit"))["items"]]
