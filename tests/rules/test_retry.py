"""The retry rules as laws: the pause stays in its bounds, the number of attempts is finite, and a policy is a value."""

from __future__ import annotations

import copy
import math
import pickle
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler import codec
from actor_scheduler.errors import InvalidArgs, InvalidTime
from actor_scheduler.limits import ATTEMPTS_MAX, RETRY_US_MIN
from actor_scheduler.retry import GiveUp, Retry, RetryLater, next_attempt_us, retry_policy

LAWS = settings(max_examples=60, deadline=None, derandomize=True, database=None)
SECOND = 1_000_000
YEAR = 366 * 86_400.0

chances = st.floats(min_value=0, max_value=1, exclude_max=True)
attempts = st.integers(min_value=1, max_value=ATTEMPTS_MAX)
delays = st.one_of(
    st.floats(min_value=0, max_value=YEAR),
    st.integers(min_value=0, max_value=366 * 86_400),
    st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=366)),
)
errors = st.sampled_from([ValueError, LookupError, KeyError, OSError, TimeoutError, GiveUp, RetryLater, Exception])
classes = st.one_of(errors, st.lists(errors, max_size=3).map(tuple))


@st.composite
def policies(draw: st.DrawFn) -> Retry:
    """Return any policy there can be."""
    return Retry(
        draw(attempts),
        backoff=draw(st.sampled_from(["exponential", "linear", "constant"])),
        base=draw(delays),
        factor=draw(st.floats(min_value=1, max_value=1e6)),
        max_delay=draw(delays),
        jitter=draw(st.floats(min_value=0, max_value=1)),
        retry_on=draw(classes),
        give_up_on=draw(classes),
    )


def plain_pause(policy: Retry, attempt: int) -> float:
    """Return the pause before jitter, as the docstring has it, on numbers that can't overflow."""
    if policy.backoff == "constant":
        pause: float = policy.base_us
    elif policy.backoff == "linear":
        pause = policy.base_us * attempt
    else:
        pause = policy.base_us * math.exp(min((attempt - 1) * math.log(policy.factor), 500))
    return min(pause, policy.max_delay_us)


# ------------------------------------------------------------------ the pause


@LAWS
@given(policy=policies(), attempt=attempts, chance=chances)
def test_S18_the_pause_is_within_its_jitter_of_the_plain_one(policy: Retry, attempt: int, chance: float) -> None:
    """S18: within [pause·(1−j), pause·(1+j)], the pause capped at max_delay; never a hot loop, whatever it says."""
    pause, delay = plain_pause(policy, attempt), policy.delay_us(attempt, chance)
    slack = 1 + pause * 1e-6  # rounding, of a microsecond and of floats
    assert delay >= RETRY_US_MIN
    assert delay == RETRY_US_MIN or delay >= pause * (1 - policy.jitter) - slack
    assert delay <= max(pause * (1 + policy.jitter) + slack, RETRY_US_MIN)
    assert delay <= max(policy.max_delay_us * (1 + policy.jitter) + slack, RETRY_US_MIN)


@LAWS
@given(policy=policies(), attempt=st.integers(min_value=1, max_value=ATTEMPTS_MAX - 1), chance=chances)
def test_the_pause_never_gets_shorter(policy: Retry, attempt: int, chance: float) -> None:
    """With the same chance, a later attempt waits at least as long."""
    assert policy.delay_us(attempt, chance) <= policy.delay_us(attempt + 1, chance)


@LAWS
@given(policy=policies(), attempt=attempts, one=chances, other=chances)
def test_the_jitter_is_symmetric_and_in_order(policy: Retry, attempt: int, one: float, other: float) -> None:
    """A larger chance is a longer pause; the middle one is the plain pause."""
    low, high = sorted((one, other))
    assert policy.delay_us(attempt, low) <= policy.delay_us(attempt, high)
    assert abs(policy.delay_us(attempt, 0.5) - max(plain_pause(policy, attempt), RETRY_US_MIN)) <= max(
        1, plain_pause(policy, attempt) * 1e-6
    )


@pytest.mark.parametrize(
    ("policy", "pauses"),
    [
        (Retry(9, jitter=0), [1, 2, 4, 8, 16]),
        (Retry(9, jitter=0, factor=3, base=2, max_delay=20), [2, 6, 18, 20, 20]),
        (Retry(9, jitter=0, backoff="linear", base=timedelta(minutes=1)), [60, 120, 180, 240, 300]),
        (Retry(9, jitter=0, backoff="constant", base=7), [7] * 5),
        (Retry(9, jitter=0, backoff="constant", base=7, max_delay=3), [3] * 5),
        (Retry(9, jitter=1, max_delay=0), [0.01] * 5),
        (Retry(9, jitter=0, base=0), [0.01] * 5),
    ],
)
def test_known_pauses(policy: Retry, pauses: list[float]) -> None:
    """The three kinds of backoff, their cap, and the least pause there is."""
    assert [policy.delay_us(attempt, 0.9) / SECOND for attempt in range(1, 6)] == pauses


@pytest.mark.parametrize(("base", "seconds"), [(1, 60), (0.000001, 60), (0, 0.01)])
def test_a_factor_that_overflows_every_float_is_the_cap(base: float, seconds: float) -> None:
    """The millionth attempt of an exponential policy waits for max_delay, computed at once; nothing grows from 0."""
    policy = Retry(ATTEMPTS_MAX, base=base, factor=1e6, jitter=0, max_delay=60)
    assert policy.delay_us(ATTEMPTS_MAX, 0.5) == seconds * SECOND


# ------------------------------------------------------------------ whether there is a next attempt


@LAWS
@given(
    policy=st.none() | policies(),
    attempt=attempts,
    error=st.none() | st.builds(lambda cls: cls("x") if cls is not RetryLater else RetryLater(1), errors),
    chance=chances,
)
def test_S6_there_is_no_attempt_beyond_the_last(
    policy: Retry | None, attempt: int, error: BaseException | None, chance: float
) -> None:
    """S6: a policy's max_attempts is never passed, by no error and no RetryLater; GiveUp ends it at once."""
    pause_us = next_attempt_us(policy, attempt, error, chance)
    if policy is not None and attempt >= policy.max_attempts:
        assert pause_us is None
    if isinstance(error, GiveUp):
        assert pause_us is None
    if policy is None and not isinstance(error, RetryLater):
        assert pause_us is None
    if policy is not None and error is None and attempt < policy.max_attempts:
        assert pause_us is not None
    assert pause_us is None or pause_us >= RETRY_US_MIN


@pytest.mark.parametrize("policy", [None, Retry(5), Retry(5, give_up_on=Exception), Retry(5, retry_on=())])
@pytest.mark.parametrize("delay", [0, 0.5, 3600, timedelta(days=2)])
def test_retry_later_says_when(policy: Retry | None, delay: Any) -> None:
    """RetryLater opts into the next attempt with or without a policy, after exactly its delay: no jitter, no cap."""
    span = delay.total_seconds() if isinstance(delay, timedelta) else delay
    expected = max(round(span * SECOND), RETRY_US_MIN)
    assert {next_attempt_us(policy, 1, RetryLater(delay), chance) for chance in (0, 0.3, 0.999)} == {expected}


def test_retry_later_without_a_policy_ends_some_day() -> None:
    """Attempts are counted in the row, so there is a last one."""
    assert next_attempt_us(None, ATTEMPTS_MAX - 1, RetryLater(1), 0.5) is not None
    assert next_attempt_us(None, ATTEMPTS_MAX, RetryLater(1), 0.5) is None


class Ours(LookupError):
    """An app's error."""


class Theirs(Ours):
    """A special case of it."""


@pytest.mark.parametrize(
    ("retry_on", "give_up_on", "error", "retried"),
    [
        (Exception, (), Theirs(), True),
        (LookupError, (), Theirs(), True),
        (Ours, (), Theirs(), True),
        (Theirs, (), Ours(), False),
        ((), (), Ours(), False),
        (Exception, Ours, Theirs(), False),
        (Exception, (Ours, OSError), FileNotFoundError(), False),
        ((OSError, Ours), Theirs, Ours(), True),
        (Exception, (), KeyboardInterrupt(), False),
        (Exception, (), SystemExit(1), False),
        (Exception, (), ExceptionGroup("both", [Ours()]), True),
    ],
)
def test_what_is_retried(retry_on: Any, give_up_on: Any, error: BaseException, retried: bool) -> None:
    """An error is retried when it is a retry_on and not a give_up_on, subclasses included; also from a row."""
    policy = Retry(3, retry_on=retry_on, give_up_on=give_up_on)
    assert policy.retries(error) is retried
    assert Retry.from_plain(codec.decode(codec.encode(policy.to_plain()))).retries(error) is retried


# ------------------------------------------------------------------ a policy is a value


@LAWS
@given(policy=policies())
def test_a_policy_comes_back_from_a_row(policy: Retry) -> None:
    """What is stored with a job is the policy: equal, with equal hash, and with equal pauses."""
    again = Retry.from_plain(codec.decode(codec.encode(policy.to_plain())))
    assert again == policy
    assert hash(again) == hash(policy)
    assert [again.delay_us(at, 0.25) for at in (1, 2, 50)] == [policy.delay_us(at, 0.25) for at in (1, 2, 50)]


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8) | st.binary(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@LAWS
@given(policy=policies(), name=st.sampled_from(sorted(Retry.__slots__)), value=json, whole=json, how=st.integers(0, 2))
def test_V7_a_damaged_policy_is_refused_in_one_way(
    policy: Retry, name: str, value: object, whole: object, how: int
) -> None:
    """V7: whatever plain value stands in the row, reading it gives a policy or InvalidArgs, never another error."""
    plain: Any = policy.to_plain()
    if how == 0:
        plain[name] = value
    elif how == 1:
        del plain[name]
    else:
        plain = whole
    try:
        read = Retry.from_plain(plain)
    except InvalidArgs:
        return
    for error in (None, ValueError(), GiveUp()):
        pause_us = next_attempt_us(read, 1, error, 0.5)
        assert pause_us is None or RETRY_US_MIN <= pause_us


def test_a_policy_given_as_its_number_of_attempts() -> None:
    """`retry=3` is Retry(3); what is neither is refused in our words."""
    assert retry_policy(3) == Retry(3)
    assert retry_policy(Retry(2, base=9)) == Retry(2, base=9)
    for wrong in (True, 3.0, "3", None, [3], Retry):
        with pytest.raises(InvalidArgs, match="Retry or a number of attempts"):
            retry_policy(wrong)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"max_attempts": 0}, InvalidArgs, "max_attempts"),
        ({"max_attempts": True}, InvalidArgs, "max_attempts"),
        ({"max_attempts": 2.0}, InvalidArgs, "max_attempts"),
        ({"max_attempts": ATTEMPTS_MAX + 1}, InvalidArgs, "max_attempts"),
        ({"backoff": "fibonacci"}, InvalidArgs, "backoff"),
        ({"backoff": None}, InvalidArgs, "backoff"),
        ({"base": -1}, InvalidTime, "base"),
        ({"base": float("nan")}, InvalidTime, "base"),
        ({"base": True}, InvalidTime, "base"),
        ({"max_delay": float("inf")}, InvalidTime, "max_delay"),
        ({"factor": 0.5}, InvalidArgs, "factor"),
        ({"factor": float("nan")}, InvalidArgs, "factor"),
        ({"factor": True}, InvalidArgs, "factor"),
        ({"jitter": 1.5}, InvalidArgs, "jitter"),
        ({"jitter": -0.1}, InvalidArgs, "jitter"),
        ({"jitter": float("nan")}, InvalidArgs, "jitter"),
        ({"retry_on": ValueError()}, InvalidArgs, "retry_on"),
        ({"retry_on": "ValueError"}, InvalidArgs, "retry_on"),
        ({"give_up_on": (ValueError, int)}, InvalidArgs, "give_up_on"),
    ],
)
def test_a_policy_that_can_not_be_is_refused(options: dict[str, Any], error: type[Exception], text: str) -> None:
    """Each part is checked when the policy is made, and the message names the part."""
    with pytest.raises(error, match=text):
        Retry(**options)


@pytest.mark.parametrize("delay", [-1, float("nan"), True, "5", None])
def test_retry_later_takes_a_delay(delay: Any) -> None:
    """What is no delay is refused where it is raised."""
    with pytest.raises(InvalidTime):
        RetryLater(delay)


@pytest.mark.parametrize("through", [copy.copy, lambda value: pickle.loads(pickle.dumps(value))])
def test_the_errors_can_be_copied(through: Any) -> None:
    """Errors travel between processes and are copied by tools: delay and reason come along."""
    later = through(RetryLater(timedelta(seconds=90), "the other side is busy"))
    assert (later.delay_us, later.reason, str(later)) == (
        90 * SECOND,
        "the other side is busy",
        "the other side is busy",
    )
    assert str(through(RetryLater(1.5))) == "to be tried again in 1.5 s"
    assert through(GiveUp("why")).args == ("why",)
