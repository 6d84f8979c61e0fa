"""What the log says of failures: text that came from anywhere moves no terminal and forges no line of another job."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor_scheduler.errors import printable
from runtime import ActionCtx, App, FunctionError, Namespace, UnknownFunction
from runtime.testing import Harness
from tests.http.hostile import CORPUS


@given(st.text(st.characters(codec=None)))
def test_what_is_printed_is_only_printed(text: str) -> None:
    shown = printable(text)
    assert all(line.isprintable() for line in shown.split("\n"))
    assert shown.count("\n") == text.count("\n")
    if text.replace("\n", "").isprintable():
        assert shown == text


async def test_a_failure_can_say_what_it_likes(caplog: pytest.LogCaptureFixture) -> None:
    """Every text of the corpus, as an error, as a FunctionError, and as one that is tried again."""
    jobs = Namespace("jobs")

    @jobs.action
    async def fail(ctx: ActionCtx[Any], *, text: str, code: bool = False) -> None:
        raise FunctionError(text[:100] or "X", text) if code else ValueError(text)

    app = App[Any]("app.db", namespaces=[jobs])
    async with Harness(app) as h:
        with caplog.at_level(logging.INFO, "actor_scheduler"):
            for text in CORPUS:
                await app.scheduler.run_now("jobs:fail", {"text": text})
                await app.scheduler.run_now("jobs:fail", {"text": text, "code": True})
                await app.scheduler.run_now("jobs:fail", {"text": text}, retry=2)
            await h.advance(days=1)
        told = [record.getMessage() for record in caplog.records if "failed" in record.getMessage()]
        assert len(told) >= 4 * len(CORPUS)
        for message in told:
            assert all(line.isprintable() for line in message.split("\n")), message[:200]


async def test_an_unknown_path_is_not_repeated_at_any_length() -> None:
    app = App[Any]("app.db")
    async with Harness(app):
        with pytest.raises(UnknownFunction) as unknown:
            await app.call("x" * 100_000)
    assert len(str(unknown.value)) < 1_000
