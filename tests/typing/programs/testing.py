"""Tests of an app: the harness and simulate keep the app's identity type and the functions' result types."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from typing_extensions import assert_type

from runtime import AppScheduler, Job
from runtime.testing import Harness, simulate
from tests.typing.programs.contexts import client
from tests.typing.programs.embedding import rt
from tests.typing.programs.functions import notify, publish
from tests.typing.programs.identity import User, app, place


async def test_trial() -> None:
    """Every member of the harness."""
    async with Harness(app, start=datetime(2026, 1, 1, tzinfo=UTC), seed=7) as h:
        assert_type(h, Harness[User])
        assert_type(await h.call(place, amount=1), int)
        assert_type(await h.call("orders:place", {"amount": 1}), Any)
        assert_type(await h.advance(30), Sequence[Job])
        assert_type(await h.advance(timedelta(days=1), hours=2), Sequence[Job])
        assert_type(await h.advance_to(datetime(2027, 1, 1, tzinfo=UTC)), Sequence[Job])
        assert_type(await h.settle(), Sequence[Job])
        assert_type(await h.pending(place), Sequence[Job])
        assert_type(await h.runs("orders:place"), Sequence[Job])
        assert_type(h.now, datetime)
        assert_type(h.scheduler, AppScheduler)
        h.override(client, object())
        await h.restart(down_for=timedelta(hours=1), kill=False)


@given(st.integers())
def test_law(post_id: int) -> None:
    """A scenario runs from synchronous code and gives its result."""

    async def scenario(h: Harness) -> int:
        await h.call(publish, post_id=post_id)
        return len(await h.pending(notify))

    assert_type(simulate(rt, scenario, seed=3), int)
