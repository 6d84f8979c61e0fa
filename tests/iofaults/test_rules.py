"""The checker after a fault can fail: each promise about the process is broken once, on purpose, and named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.crash.history import Ask, Body, History, JobRow, plain
from tests.crash.rules import Rule
from tests.iofaults.rules import AfterFault, Ended, judge
from tests.powerloss.rules import Content

JOB = f"{1:016x}{0:016x}"
PROBE = plain(Ask("probe", "get", target=JOB))
WELL: list[list[Any]] = [
    ["ask", plain(Ask("a", "schedule", (Body("a", kind="action"),))), 0], ["answer", "a", "ack", JOB, []],
    ["fired", 1, {"WRITE": 3}], ["healed", None],
    ["ask", PROBE, 1], ["answer", "probe", "ack", "failed", []],
]  # fmt: skip
ROW = JobRow(JOB, "a", "action", "failed", 1, 1, "interrupted")


def _rules(told: list[list[Any]] = WELL, *, row: JobRow = ROW, **ended: Any) -> set[object]:
    content = Content(History(rows=[row]), "s")
    return {found.rule for found in judge(History(), Ended(told, **{"status": 0, **ended}), content, heals=True)}


def test_a_process_that_keeps_its_promises_breaks_none() -> None:
    """And what it told of its calls is read."""
    assert _rules() == set()
    assert Ended(WELL, 0).fired == 1
    assert Ended(WELL, 0).calls == {"WRITE": 3}


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"hung": True}, AfterFault.HUNG),
        ({"status": 70}, AfterFault.DIED),
        ({"told": [*WELL, ["busy", "the app loops"]]}, AfterFault.BUSY),
        ({"told": [*WELL, ["start", False, "OSError()"]]}, AfterFault.UNCLEAR),
        ({"told": [*WELL, ["stop", False, "sqlite3.OperationalError()"]]}, AfterFault.UNCLEAR),
        ({"told": [*WELL, ["healed", "the disk is full"]]}, AfterFault.UNHEALTHY),
        ({"told": WELL[:-1]}, AfterFault.UNHEARD),
        ({"told": [*WELL, ["ask", plain(Ask("b", "get", target=JOB)), 2]]}, AfterFault.UNANSWERED),
        ({"told": [*WELL[:-1], ["answer", "probe", "error", "OperationalError", []]]}, Rule.UNEXPECTED),
        ({"row": JobRow(JOB, "a", "action", "pending", 1)}, Rule.UNFINISHED),
    ],
)
def test_a_broken_promise_is_named(change: dict[str, Any], rule: object) -> None:
    """One change, one promise."""
    assert rule in _rules(**change)


def test_a_clear_error_is_allowed_and_so_is_an_action_that_the_store_refused() -> None:
    """A disk that fails may stop a start, and fail what needed it."""
    refused = JobRow(JOB, "a", "action", "failed", 1, 1, "error", "nothing was written")
    told = [*WELL, ["start", True, "StoreUnavailable()"]]
    assert _rules(told) == set()
    assert _rules(told, row=refused) == set()
