"""The page about the administration: every route stands on it, and what it shows can be sent."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx

from runtime.http.tables import TABLES

PAGE = (Path(__file__).parents[2] / "docs" / "admin.md").read_text("utf-8")


def test_every_route_stands_on_the_page_with_its_role() -> None:
    """And no other."""
    told = set(re.findall(r"^\| `(GET|POST) (/admin[^`]*)` \| (\w+) \|", PAGE, re.MULTILINE))
    served = {(route.method, route.path, route.door) for route in TABLES if route.path.startswith("/admin")}
    assert told == served


async def test_what_the_page_sends_can_be_sent(operator: httpx.AsyncClient) -> None:
    """Each example, as it stands there."""
    examples = re.findall(r"```http\nPOST (\S+)\n(.*?)```", PAGE, re.DOTALL)
    assert len(examples) == 4
    for path, body in examples:
        answer = await operator.post(path, json=json.loads(body))
        assert answer.is_success, answer.text
