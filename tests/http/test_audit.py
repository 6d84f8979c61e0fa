"""The record of deeds: bounded, newest first, and one line of log each that no text can forge."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.http.audit import KEPT, Audit
from runtime.http.who import Who

WHO = Who(role="operate", key_id="0a1b2c3d", via="bearer", peer="192.0.2.1")


def make() -> Audit:
    return Audit(lambda: datetime(2026, 1, 1, tzinfo=UTC))


def test_the_newest_deeds_are_kept_newest_first() -> None:
    audit = make()
    for number in range(KEPT + 5):
        audit.note(WHO, "cancel", f"job {number}", "changed", "r")
    assert [deed.target for deed in audit.latest(3)] == [f"job {KEPT + 4 - back}" for back in range(3)]
    assert len(audit.latest(10 * KEPT)) == KEPT
    assert audit.latest(1)[0].who == "0a1b2c3d"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(target=st.text(st.characters(codec=None)), result=st.text(st.characters(codec=None)))
def test_no_text_makes_a_second_line_or_moves_a_terminal(
    target: str, result: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    with caplog.at_level(logging.INFO, "actor_scheduler.audit"):
        make().note(WHO, "cancel", target, result, "request")
    (record,) = caplog.records
    assert record.getMessage().isprintable()
