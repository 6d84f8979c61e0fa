"""Confirmations: a token lets through exactly what it was made for, once, in its time, in this process."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.model import Mark
from runtime.http import confirmation
from runtime.http.confirmation import LIFE_US, Confirmations, Confirmed, Intent
from tests.http.hostile import KEYS

LAWS = settings(max_examples=150, deadline=None, derandomize=True, database=None)
NOW_US = 1_767_225_600_000_000
MARK = Mark(7, NOW_US)

filters = st.dictionaries(
    st.sampled_from(["state", "function", "key", "text"]), st.sampled_from(KEYS) | st.text(max_size=5)
)
intents = st.builds(
    Intent, st.sampled_from(["cancel", "retry", "drop"]), filters, st.sampled_from(["0a0a0a0a", "0b0b0b0b"])
)
counts = st.integers(0, 1 << 40)
marks = st.builds(Mark, st.integers(0, (1 << 63) - 1), st.integers(0, 1 << 55))


@LAWS
@given(intents, counts, marks, st.integers(0, LIFE_US - 1))
def test_a_token_confirms_its_own_intent_until_it_ends(intent: Intent, jobs: int, mark: Mark, later_us: int) -> None:
    """It says what was counted; the order in which a filter was written does not matter."""
    given_out = Confirmations()
    token, ends_us = given_out.give(intent, jobs, mark, NOW_US)
    assert ends_us == NOW_US + LIFE_US
    turned = intent._replace(which=dict(reversed(intent.which.items())))
    assert given_out.look(token, turned, NOW_US + later_us) == Confirmed(1, jobs, mark, ends_us)
    assert given_out.look(token, intent, ends_us) is None
    assert not given_out.use(token, intent, ends_us)


@LAWS
@given(st.lists(st.tuples(intents, counts), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=12))
def test_a_token_is_used_once(asked: list[tuple[Intent, int]], uses: list[int]) -> None:
    """Whatever was used before it, or looked at, and also when the same was counted at the same moment."""
    given_out = Confirmations()
    tokens = [given_out.give(intent, jobs, MARK, NOW_US)[0] for intent, jobs in asked]
    used = set()
    for number in (at % len(asked) for at in uses):
        for _ in range(2):
            assert (given_out.look(tokens[number], asked[number][0], NOW_US) is None) is (number in used)
        assert given_out.use(tokens[number], asked[number][0], NOW_US) is (number not in used)
        used.add(number)
    assert len(given_out) == len(used)


@LAWS
@given(intents, intents)
def test_a_token_confirms_nothing_else(intent: Intent, other: Intent) -> None:
    """Another action, filter or key is another intent; and trying it uses nothing up."""
    given_out = Confirmations()
    token, _ = given_out.give(intent, 3, MARK, NOW_US)
    assert (given_out.look(token, other, NOW_US) is not None) is (intent == other)
    assert given_out.use(token, other, NOW_US) is (intent == other)
    assert given_out.use(token, intent, NOW_US) is (intent != other)


@pytest.mark.parametrize(
    "change",
    [
        {"action": "drop"}, {"which": {}}, {"which": {"state": "failed", "key": "k"}}, {"which": {"key": "failed"}},
        {"key_id": "0b0b0b0b"},
    ],
)  # fmt: skip
def test_each_part_counts(change: dict[str, Any]) -> None:
    """Changed alone, each part makes the token stale."""
    intent = Intent("retry", {"state": "failed"}, "0a0a0a0a")
    given_out = Confirmations()
    token, _ = given_out.give(intent, 3, MARK, NOW_US)
    assert given_out.look(token, intent, NOW_US)
    assert not given_out.look(token, intent._replace(**change), NOW_US)


@LAWS
@given(intents, st.text(max_size=90) | st.lists(st.text("0123456789af", max_size=66), max_size=6).map(".".join))
def test_what_is_no_token_confirms_nothing_and_raises_nothing(intent: Intent, text: str) -> None:
    """Whatever a client sends in its place."""
    given_out = Confirmations()
    assert given_out.look(text, intent, NOW_US) is None
    assert not given_out.use(text, intent, NOW_US)
    assert len(given_out) == 0


@LAWS
@given(intents, counts, marks, st.data())
def test_a_token_can_not_be_changed(intent: Intent, jobs: int, mark: Mark, data: st.DataObject) -> None:
    """Not its count, its mark, its end or its seal, not one character; and it is worth nothing to another process."""
    given_out = Confirmations()
    token, _ = given_out.give(intent, jobs, mark, NOW_US)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("0123456789abcdefA.-\u0661"))
    changed = token[:at] + other + token[at + 1 :]
    assert (given_out.look(changed, intent, NOW_US) is not None) is (changed == token)
    assert given_out.look(f"0{token}", intent, NOW_US) is None  # it has one spelling
    assert Confirmations().look(token, intent, NOW_US) is None


def test_only_so_many_used_tokens_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that have ended go first; when that is not enough, all tokens become stale, and none can be used again."""
    monkeypatch.setattr(confirmation, "USED_MAX", 3)
    given_out, intent = Confirmations(), Intent("drop", {}, "0a0a0a0a")
    tokens = [given_out.give(intent, 1, MARK, NOW_US)[0] for _ in range(6)]
    for token in tokens[:3]:
        assert given_out.use(token, intent, NOW_US)
    late_us = NOW_US + LIFE_US
    later = [given_out.give(intent, 1, MARK, late_us)[0] for _ in range(6)]
    assert given_out.use(later[0], intent, late_us)
    assert len(given_out) == 1
    for token in later[1:4]:
        assert given_out.use(token, intent, late_us)
    assert len(given_out) == 0
    assert not any(given_out.use(token, intent, late_us) for token in later)
    assert given_out.use(given_out.give(intent, 1, MARK, late_us)[0], intent, late_us)
