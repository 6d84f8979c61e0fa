"""Documents: whatever stands in an app has one in JSON, it says what stands there, and hides what is to be hidden."""

from __future__ import annotations

import base64
import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actor_scheduler import codec
from actor_scheduler.crons.records import CronDiff, CronInfo, CronRun, ManifestInfo
from actor_scheduler.crons.schedule import Cron, Every, Schedule
from actor_scheduler.crons.spec import CronSpec
from actor_scheduler.model import FailedAttempt, Job, Page
from actor_scheduler.queues import parse_rate
from actor_scheduler.settings import PoolInfo
from runtime import ActionCtx, MutationCtx, Namespace, Retry
from runtime.http import documents
from runtime.http.plain import plain
from tests.http.hostile import CORPUS

LAWS = settings(max_examples=50, deadline=None, derandomize=True, database=None)

texts = st.one_of(
    st.sampled_from([text for text in CORPUS if len(text) < 300]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
zones = st.timedeltas(min_value=timedelta(hours=-23), max_value=timedelta(hours=23)).map(timezone)
moments = st.datetimes(min_value=datetime(2, 1, 1), max_value=datetime(9998, 1, 1), timezones=zones)
leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-(1 << 63), (1 << 63) - 1), st.floats(allow_nan=False, allow_infinity=False),
    texts, st.binary(max_size=20), moments,
)  # fmt: skip
values = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(texts, inner, max_size=4)),
    max_leaves=20,
)


def optional(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


jobs = st.builds(
    Job,
    id=texts, path=texts, kind=st.sampled_from(["mutation", "action"]),
    state=st.sampled_from(["pending", "in_progress", "success", "failed", "canceled"]),
    args=st.dictionaries(texts, values, max_size=4), args_error=optional(texts), key=optional(texts),
    idempotency_key=optional(texts), attempt=st.integers(0, 1_000_000), scheduled_at=moments, fire_at=moments,
    created_at=moments, started_at=optional(moments), completed_at=optional(moments),
    cause=optional(st.sampled_from(["error", "timeout", "crash_loop"])), error=optional(texts),
    error_code=optional(texts), error_data=values, traceback=optional(texts), result=values,
    result_truncated=st.booleans(), occurrence_id=texts, parent_id=optional(texts), lane=optional(texts),
    priority=st.integers(-100, 100), cron=optional(texts),
)  # fmt: skip
attempts = st.builds(FailedAttempt, st.integers(1, 10), moments, moments, st.just("error"), optional(texts))
SPEC = CronSpec("name", Every(minutes=5), "a:b", "mutation", codec.encode({}))
infos = st.builds(
    CronInfo,
    name=texts, schedule=st.sampled_from([None, Cron("0 9 * * *", tz="Europe/Paris"), Every(seconds=1.5)]), path=texts,
    args=st.dictionaries(texts, values, max_size=3), next_at=optional(moments), accounted_to=moments,
    anchored_at=moments, paused=st.booleans(), note=texts, origin=st.just("runtime"), trouble=optional(texts),
    spec=st.sampled_from([None, SPEC]),
)  # fmt: skip
spans = st.timedeltas(timedelta(0), timedelta(days=3650))
runs = st.builds(
    CronRun,
    cron=texts, tick=moments, first_tick=moments, state=st.sampled_from(["skipped", "success", "failed"]),
    reason=optional(st.just("overlap")), ticks=st.integers(0, 10), skipped=st.integers(0, 1 << 40),
    manual=st.booleans(), job_id=optional(texts), attempts=st.integers(0, 5), started_at=optional(moments),
    duration=optional(spans), lag=optional(spans), error=optional(texts), result_bytes=st.integers(0, 1 << 16),
)  # fmt: skip


def through_json(document: Any) -> Any:
    """Return a document as a reader of the answer has it."""
    return json.loads(json.dumps(document, allow_nan=False))


def read_back(document: Any) -> Any:
    """Return the value that a document of `plain` stands for; moments stay text."""
    match document:
        case {"$bytes": str(text)} if len(document) == 1:
            return base64.b64decode(text, validate=True)
        case {"$float": str(text)} if len(document) == 1:
            return float(text)
        case dict():
            return {name: read_back(each) for name, each in document.items()}
        case list():
            return [read_back(each) for each in document]
    return document


def ambiguous(value: Any) -> bool:
    """Whether a map looks like what stands for bytes: a reader takes it for them, and this is how it is written."""
    match value:
        case dict():
            return (len(value) == 1 and not value.keys().isdisjoint({"$bytes", "$float"})) or any(
                map(ambiguous, value.values())
            )
        case list():
            return any(map(ambiguous, value))
    return False


def moments_as_text(value: Any) -> Any:
    match value:
        case datetime():
            return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")
        case dict():
            return {name: moments_as_text(each) for name, each in value.items()}
        case list():
            return [moments_as_text(each) for each in value]
    return value


@LAWS
@given(values.filter(lambda value: not ambiguous(value)))
@example([-(1 << 63), (1 << 63) - 1, 9007199254740993, -0.0, 5e-324, b"\x00\xff", {"__proto__": {"": "\x00"}}])
def test_a_stored_value_can_be_read_back_from_its_document(value: Any) -> None:
    """What went into the file comes out of the answer: integers of 64 bits exactly, bytes byte by byte."""
    stored = codec.decode(codec.encode(value))
    again = read_back(through_json(plain(stored)))
    assert again == moments_as_text(value)
    assert [type(each) for each in flat(again)] == [type(each) for each in flat(moments_as_text(value))]


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in flat(each)]
    return [leaf for each in value for leaf in flat(each)] if isinstance(value, list) else [value]


@LAWS
@given(jobs, st.lists(attempts, max_size=3))
def test_every_job_has_a_document(job: Job, failed: list[FailedAttempt]) -> None:
    """A row is part of the whole, and each plain field stands there as it is."""
    row, whole = through_json(documents.job_row(job)), through_json(documents.job_whole(job, failed, hidden=False))
    assert row.items() <= whole.items()
    for name in (
        "id",
        "path",
        "key",
        "lane",
        "cron",
        "error",
        "error_code",
        "traceback",
        "idempotency_key",
        "args_error",
    ):
        assert whole[name] == getattr(job, name)
    assert whole["hidden"] is False
    assert len(whole["attempts"]) == len(failed)
    assert not {"args", "result", "error_data", "traceback", "idempotency_key"} & row.keys()


@LAWS
@given(jobs)
def test_a_hidden_job_tells_nothing_of_what_it_was_given(job: Job) -> None:
    """Two jobs that differ only in what is hidden have the same document, with every name of a whole one."""
    other = Job(**{
        **{name: getattr(job, name) for name in Job.__slots__},
        "args": {"other": 1}, "result": "other", "error_data": ["other"], "traceback": "other",
    })  # fmt: skip
    hidden = documents.job_whole(job, [], hidden=True)
    assert hidden == documents.job_whole(other, [], hidden=True)
    assert hidden.keys() == documents.job_whole(job, [], hidden=False).keys()
    assert hidden["hidden"] is True
    assert [hidden[name] for name in ("args", "result", "error_data", "traceback")] == [None] * 4


@LAWS
@given(infos, st.booleans())
def test_every_cron_has_a_document(info: CronInfo, hidden: bool) -> None:
    """Also one whose definition can't be read."""
    document = through_json(documents.cron(info, hidden=hidden))
    assert (document["name"], document["note"], document["trouble"]) == (info.name, info.note, info.trouble)
    assert document["args"] == (None if hidden else through_json(plain(info.args)))
    assert document["hidden"] is hidden
    assert document["max_catch_up_age_seconds"] == (None if info.spec is None else 172_800.0)


@LAWS
@given(runs)
def test_every_run_of_a_cron_has_a_document(run: CronRun) -> None:
    """Spans are seconds."""
    document = through_json(documents.cron_run(run))
    assert document["duration_seconds"] == (None if run.duration is None else run.duration.total_seconds())
    assert (document["cron"], document["error"], document["job_id"]) == (run.cron, run.error, run.job_id)


@pytest.mark.parametrize(
    ("when", "document"),
    [
        (None, None),
        (Cron("0 15 * * *", tz="Europe/Paris"), {"cron": "0 15 * * *", "tz": "Europe/Paris"}),
        (Every(minutes=15), {"every_seconds": 900.0}),
        (Every(timedelta(seconds=1, microseconds=1)), {"every_seconds": 1.000001}),
    ],
)
def test_a_schedule_is_shown_as_it_is_said(when: Schedule | None, document: Any) -> None:
    """In the words of a definition."""
    assert documents.schedule(when) == document


def test_ticks_are_shown_on_the_wall_clock_of_their_zone() -> None:
    """Nine in the morning stays nine in the morning when the offset changes."""
    ticks = [datetime(2026, 10, 24, 7, tzinfo=UTC), datetime(2026, 10, 25, 8, tzinfo=UTC)]
    assert documents.preview("x", Cron("0 9 * * *", tz="Europe/Paris"), ticks) == {
        "name": "x",
        "ticks": ["2026-10-24T07:00:00.000000Z", "2026-10-25T08:00:00.000000Z"],
        "local": ["2026-10-24T09:00:00+02:00", "2026-10-25T09:00:00+01:00"],
    }
    assert documents.preview("x", Every(hours=1), ticks[:1])["local"] == ["2026-10-24T07:00:00+00:00"]


def test_moments_always_have_microseconds() -> None:
    """So that as texts they sort as they do in time."""
    early, late = datetime(26, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=2)))
    assert [plain(early), plain(late)] == ["0026-01-01T00:00:00.000000Z", "2026-01-01T10:00:00.000001Z"]


def test_what_a_call_returned_always_has_a_document() -> None:
    """What JSON carries as it is; what a job could keep as a job keeps it; and of anything else the beginning."""

    @dataclass
    class Odd:
        text: str

    loop: list[Any] = []
    loop.append(loop)
    for value, shown in (
        ({"a": [1, b"\x00"]}, {"a": [1, {"$bytes": "AA=="}]}),
        (math.nan, {"$float": "nan"}),
        (-math.inf, {"$float": "-inf"}),
        (1 << 80, 1 << 80),
        (UUID(int=1), str(UUID(int=1))),
        (Decimal("1.10"), "1.10"),
        (date(2026, 1, 2), "2026-01-02"),
        ({1}, [1]),
    ):
        assert documents.call_result(value) == {"result": shown, "result_truncated": False}, value
        through_json(documents.call_result(value))
    for value in (Odd("\ud800"), loop, {"x": object()}, 10**5000):
        assert through_json(documents.call_result(value))["result_truncated"] is True
    assert documents.call_result(Odd("x"))["result"].endswith("Odd(text='x')")


def test_a_function_is_shown_with_its_rule() -> None:
    """What its decorator said, in the words of the decorator."""
    ns = Namespace[Any]("ns", access="public")

    @ns.action(timeout=1.5, retry=Retry(3), concurrency=2, pool="mail", rate="5/30s", aliases=["old:name"])
    async def send(ctx: ActionCtx, *, to: str) -> None:
        """Send it.

        Really.
        """

    @ns.mutation(access="system")
    async def quiet(ctx: MutationCtx) -> None: ...

    assert documents.function(send, {"type": "object"}) == {
        "path": "ns:send", "kind": "action", "access": "public", "aliases": ["old:name"],
        "description": "Send it.\n\nReally.", "arguments": {"type": "object"}, "pool": "mail", "concurrency": 2,
        "rate": "5/30s", "timeout_seconds": 1.5, "max_attempts": 3,
    }  # fmt: skip
    shown = documents.function(quiet, {})
    assert (shown["description"], shown["rate"], shown["max_attempts"]) == ("", None, 1)
    assert (shown["access"], shown["timeout_seconds"]) == ("system", 10.0)


@LAWS
@given(st.integers(1, 10_000), st.integers(1, 10_000), st.sampled_from("smh"))
def test_a_rate_is_written_so_that_it_can_be_read(starts: int, many: int, unit: str) -> None:
    """Whatever a decorator said, what is shown means the same."""
    ns = Namespace[Any]("ns")
    rate = parse_rate(f"{starts}/{many}{unit}")

    @ns.action(rate=f"{starts}/{many}{unit}")
    async def go(ctx: ActionCtx) -> None: ...

    assert parse_rate(documents.function(go, {})["rate"]) == rate


def test_the_rest() -> None:
    """Small values, field by field."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    assert documents.pool(PoolInfo("mail", 0, 1), 4) == {"name": "mail", "limit": 0, "declared": 4, "running": 1}
    assert documents.diff(CronDiff(added=("a",))) == {"added": ["a"], "updated": [], "unchanged": [], "deleted": []}
    info = ManifestInfo(version=2, digest="d", state="staged", crons=("a",), staged_at=at, activated_at=None)
    assert documents.manifest(info) == {
        "version": 2, "digest": "d", "state": "staged", "crons": ["a"],
        "staged_at": "2026-01-01T00:00:00.000000Z", "activated_at": None, "diff": None,
    }  # fmt: skip
    assert documents.page(Page([1, 2], "next"), lambda each: {"n": each}) == {
        "items": [{"n": 1}, {"n": 2}], "next_cursor": "next",
    }  # fmt: skip
    assert documents.items([]) == {"items": []}
