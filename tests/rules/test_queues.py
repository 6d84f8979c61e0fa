"""Names of queues, rates and priorities: what is said, what is read back, and what no release ever wrote."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor_scheduler.errors import InvalidArgs
from actor_scheduler.limits import PRIORITY_MAX, RATE_MAX
from actor_scheduler.queues import (
    ACTIONS,
    MUTATIONS,
    PARKED,
    Rate,
    Routing,
    base_of,
    check_priority,
    holds_mutations,
    parse_rate,
    priority_of,
)

BASES = st.sampled_from([ACTIONS, "pool:mail", "pool:a:b", "pool:~x", "fn:mail:send", "rate:mail.all:send"])
PRIORITIES = st.integers(-PRIORITY_MAX, PRIORITY_MAX)


@given(base=BASES, priority=PRIORITIES)
def test_a_name_says_its_base_and_its_priority(base: str, priority: int) -> None:
    """What a routing puts together must be taken apart again, and sort before everything that is parked."""
    routing = Routing({"f": base}, {}, {})
    name = routing.queue("f", "action", priority)
    assert (base_of(name), priority_of(name), holds_mutations(name)) == (base, priority, False)
    assert ("#" in name) == (priority != 0)
    assert name < PARKED <= PARKED + name
    name = routing.queue("f", "mutation", priority)
    assert (base_of(name), priority_of(name), holds_mutations(name)) == (MUTATIONS, priority, True)


@given(name=st.text())
def test_any_text_is_a_queue_of_some_priority(name: str) -> None:
    """A damaged name must not hurt: it has a base, and a priority that fits."""
    assert -PRIORITY_MAX <= priority_of(name) <= PRIORITY_MAX
    assert name.startswith(base_of(name))


@pytest.mark.parametrize(
    ("name", "priority"),
    [("action#", 0), ("action#x", 0), ("action#1#2", 0), ("action#101", 100), ("action#-9999999", -100), ("#7", 7)],
)
def test_a_priority_nobody_gave_is_the_nearest_there_is(name: str, priority: int) -> None:
    """What can't be read is 0, what is too much is the most."""
    assert priority_of(name) == priority


def test_functions_without_limits_share_one_queue() -> None:
    """Aliases go where their function goes; whoever has no limits goes to `action`."""
    routing = Routing({"a:new": "fn:a:new", "a:old": "fn:a:new"}, {"fn:a:new": ("fn:a:new",)}, {"fn:a:new": 1})
    assert routing.queue("a:new", "action") == routing.queue("a:old", "action") == "fn:a:new"
    assert routing.queue("b:any", "action") == ACTIONS
    assert routing.queue("a:new", "mutation") == MUTATIONS


@pytest.mark.parametrize(
    ("text", "starts", "seconds"),
    [
        ("10/s", 10, 1), ("100/m", 100, 60), ("5/30s", 5, 30), ("1000/h", 1000, 3600), ("1/d", 1, 86_400),
        ("1/7d", 1, 7 * 86_400), (f"{RATE_MAX}/s", RATE_MAX, 1), ("3/99999d", 3, 99_999 * 86_400),
    ],
)  # fmt: skip
def test_a_rate_reads_as_it_is_written(text: str, starts: int, seconds: int) -> None:
    """A number, a slash, an optional number, and one of s, m, h, d."""
    assert parse_rate(text) == Rate(starts, seconds * 1_000_000)


@pytest.mark.parametrize(
    "text",
    ["", "10", "10/", "/s", "0/s", "-1/s", "1/0s", "01/s", "1/ s", "1 /s", "1/s ", "1/s\n", "1/S", "1.5/s", "1e3/s", "1/w",
     f"{RATE_MAX + 1}/s", "999999/s", "1/999999s", "١/s", 10, None, b"1/s", "1//s", "+1/s"],
)  # fmt: skip
def test_anything_else_is_no_rate(text: object) -> None:
    """And is refused with the forms that are."""
    with pytest.raises(InvalidArgs, match=re.escape('rate reads "10/s", "100/m", "5/30s", "1000/h"')):
        parse_rate(text)


@given(priority=PRIORITIES)
def test_priorities_that_fit(priority: int) -> None:
    """From minus a hundred to a hundred."""
    assert check_priority(priority) == priority


@pytest.mark.parametrize("priority", [101, -101, True, 1.0, "1", None, 10**30])
def test_priorities_that_do_not(priority: object) -> None:
    """True is not 1, and 1.0 is not either."""
    with pytest.raises(InvalidArgs, match="priority must be a whole number from -100 to 100"):
        check_priority(priority)
