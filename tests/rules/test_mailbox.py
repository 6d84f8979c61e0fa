"""The mailbox: bounded by number, and by how long the first has waited."""

from __future__ import annotations

import asyncio

import pytest

from actor_scheduler import mailbox
from actor_scheduler.errors import Overloaded
from actor_scheduler.limits import MAILBOX_MAX, MAILBOX_WAIT_US, TURN_COMMANDS_MAX
from actor_scheduler.mailbox import Mailbox
from actor_scheduler.store.base import CancelJob


class Clock:
    now_us = 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(mailbox, "monotonic_us", lambda: clock.now_us)
    return clock


def reply() -> asyncio.Future[object]:
    return asyncio.get_running_loop().create_future()


async def test_no_more_are_taken_than_fit(clock: Clock) -> None:
    """Memory is bounded: what is beyond the limit is refused at once, and definitely not done."""
    box = Mailbox()
    for _ in range(MAILBOX_MAX):
        box.put(CancelJob("x"), reply())
    with pytest.raises(Overloaded, match="20000 commands are waiting"):
        box.put(CancelJob("x"), reply())
    box.put(CancelJob("x"), None)  # a completion is never refused
    assert len(box) == MAILBOX_MAX + 1


async def test_no_more_are_taken_while_a_backlog_waits_too_long(clock: Clock) -> None:
    """However slow a command is, who is accepted is served within a bounded time after the flood ends."""
    box = Mailbox()
    for _ in range(TURN_COMMANDS_MAX + 1):
        box.put(CancelJob("x"), reply())
    clock.now_us = MAILBOX_WAIT_US
    box.put(CancelJob("x"), reply())
    clock.now_us += 1
    with pytest.raises(Overloaded, match="the first for 10 s"):
        box.put(CancelJob("x"), reply())
    box.take(TURN_COMMANDS_MAX)
    box.put(CancelJob("x"), reply())  # the next turn takes them all


async def test_one_slow_turn_refuses_nobody(clock: Clock) -> None:
    """A disk that takes long for one flush makes few wait long: they all go with the next one."""
    box = Mailbox()
    for _ in range(TURN_COMMANDS_MAX):
        box.put(CancelJob("x"), reply())
    clock.now_us = 2 * MAILBOX_WAIT_US
    box.put(CancelJob("x"), reply())
    assert len(box) == TURN_COMMANDS_MAX + 1
