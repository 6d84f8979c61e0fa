"""Confirmations: a token lets through exactly what it was made for, in its time, in this process."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.http.confirmation import LIFE_US, Intent, confirm_with, confirms
from tests.http.hostile import KEYS

LAWS = settings(max_examples=150, deadline=None, derandomize=True, database=None)
SECRET, NOW_US = b"s" * 32, 1_767_225_600_000_000

filters = st.dictionaries(
    st.sampled_from(["state", "function", "key", "text"]), st.sampled_from(KEYS) | st.text(max_size=5)
)
intents = st.builds(
    Intent,
    st.sampled_from(["cancel", "retry", "drop"]), filters, st.integers(0, 1 << 40), st.sampled_from(["0a0a0a0a", "0b0b0b0b"]),
)  # fmt: skip


@LAWS
@given(intents, st.integers(0, LIFE_US - 1))
def test_a_token_confirms_its_own_intent_until_it_ends(intent: Intent, later_us: int) -> None:
    """The order in which a filter was written does not matter."""
    token, ends_us = confirm_with(intent, SECRET, NOW_US)
    assert ends_us == NOW_US + LIFE_US
    turned = intent._replace(which=dict(reversed(intent.which.items())))
    assert confirms(token, turned, SECRET, NOW_US + later_us)
    assert not confirms(token, intent, SECRET, ends_us)


@LAWS
@given(intents, intents)
def test_a_token_confirms_nothing_else(intent: Intent, other: Intent) -> None:
    """Another action, filter, count or key is another intent."""
    token, _ = confirm_with(intent, SECRET, NOW_US)
    assert confirms(token, other, SECRET, NOW_US) is (intent == other)


@pytest.mark.parametrize(
    "change",
    [
        {"action": "drop"}, {"which": {}}, {"which": {"state": "failed", "key": "k"}}, {"which": {"key": "failed"}},
        {"jobs": 4}, {"key_id": "0b0b0b0b"},
    ],
)  # fmt: skip
def test_each_part_counts(change: dict[str, Any]) -> None:
    """Changed alone, each part makes the token stale."""
    intent = Intent("retry", {"state": "failed"}, 3, "0a0a0a0a")
    token, _ = confirm_with(intent, SECRET, NOW_US)
    assert confirms(token, intent, SECRET, NOW_US)
    assert not confirms(token, intent._replace(**change), SECRET, NOW_US)


@LAWS
@given(intents, st.text(max_size=90))
def test_what_is_no_token_confirms_nothing_and_raises_nothing(intent: Intent, text: str) -> None:
    """Whatever a client sends in its place."""
    assert not confirms(text, intent, SECRET, NOW_US)


@LAWS
@given(intents, st.data())
def test_a_token_can_not_be_changed(intent: Intent, data: st.DataObject) -> None:
    """Not its end, not its seal, not one character; and it is worth nothing to another process."""
    token, ends_us = confirm_with(intent, SECRET, NOW_US)
    at = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("0123456789abcdefA.-\u0661"))
    changed = token[:at] + other + token[at + 1 :]
    assert confirms(changed, intent, SECRET, NOW_US) is (changed == token)
    assert not confirms(token.replace(str(ends_us), str(ends_us + 1)), intent, SECRET, NOW_US)
    assert not confirms(token, intent, b"t" * 32, NOW_US)
