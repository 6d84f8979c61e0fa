"""The retention rules, and when the actor looks for what can be forgotten."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.limits import PRUNE_MAX, PRUNE_US
from actor_scheduler.pruning import Pruning
from actor_scheduler.retention import next_look_us, prune_at_us
from actor_scheduler.store.base import Done, Found, Prune, Pruned, Refused

LAWS = settings(max_examples=60, deadline=None, derandomize=True, database=None)
moments = st.integers(min_value=0, max_value=1 << 50)


@LAWS
@given(completed_us=moments, keep_us=st.none() | moments)
def test_a_job_is_kept_from_its_completion_on(completed_us: int, keep_us: int | None) -> None:
    """K27: kept for its time after completion, not after creation; None is for ever."""
    at_us = prune_at_us(completed_us, keep_us)
    assert at_us == (None if keep_us is None else completed_us + keep_us)


@LAWS
@given(now_us=moments, next_us=st.none() | moments, more=st.booleans())
def test_the_next_look(now_us: int, next_us: int | None, more: bool) -> None:
    """At once while there is more; never while there is nothing; else when the next one may go, in company."""
    look_us = next_look_us(now_us, next_us, more=more)
    if more:
        assert look_us == now_us
    elif next_us is None:
        assert look_us is None
    else:
        assert look_us is not None
        assert look_us >= next_us
        assert now_us + PRUNE_US <= look_us <= max(next_us, now_us + PRUNE_US)


def test_an_app_without_ended_jobs_never_looks() -> None:
    """No polling: nothing waits to be forgotten, so nothing is armed."""
    pruning = Pruning(enabled=True)
    pruning.begin(Found(), 0)
    assert pruning.due_us is None
    assert pruning.unit(1 << 60) == []


def test_a_disabled_pruning_never_looks() -> None:
    """A harness keeps what its test wants to look at."""
    pruning = Pruning(enabled=False)
    pruning.begin(Found(prune_us=5), 0)
    pruning.ended(7)
    assert pruning.due_us is None


ends = st.lists(st.tuples(st.integers(0, 400_000_000), st.none() | st.integers(0, 900_000_000)), max_size=30)


@LAWS
@given(jobs=ends, batch=st.integers(min_value=1, max_value=3))
def test_nothing_is_kept_much_longer_than_its_time(jobs: list[tuple[int, int | None]], batch: int) -> None:
    """Every job goes within two minutes of its time, however long those before it are kept; none goes early.

    A model of the actor: jobs end, looks come when they are due, and each forgets what may go.
    """
    pruning = Pruning(enabled=True)
    pruning.begin(Found(), 0)
    coming = sorted(jobs, key=lambda job: job[0])
    kept: list[int] = []
    now_us = 0
    looks = 0
    while coming or pruning.due_us is not None:
        next_end = coming[0][0] if coming else None
        due_us = pruning.due_us
        if next_end is not None and (due_us is None or next_end <= due_us):
            now_us = max(now_us, next_end)
            at_us = prune_at_us(now_us, coming.pop(0)[1])
            if at_us is not None:
                kept.append(at_us)
            pruning.ended(now_us)
        else:
            assert due_us is not None
            now_us = max(now_us, due_us)
            looks += 1
            assert pruning.unit(now_us) == [Prune(now_us, PRUNE_MAX)]
            going = sorted(at_us for at_us in kept if at_us <= now_us)
            for at_us in going[:batch]:
                assert now_us - at_us <= 2 * PRUNE_US
                kept.remove(at_us)
            full = PRUNE_MAX if len(going) > batch else len(going[:batch])
            pruning.answered(Done(Pruned(full, min(kept, default=None))), now_us)
    assert kept == []
    assert looks <= 3 * len(jobs) + 1


def test_a_store_that_can_not_forget_now_is_asked_later() -> None:
    """A full disk must not make it a busy loop."""
    pruning = Pruning(enabled=True)
    pruning.begin(Found(prune_us=0), 0)
    due_us = pruning.due_us
    assert due_us is not None
    pruning.answered(Refused(ValueError()), due_us)
    assert pruning.due_us == due_us + PRUNE_US
