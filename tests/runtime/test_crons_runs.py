"""What a cron's run is told, and what a start does with the definitions: the whole way from the code to ctx."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import (
    ActionCtx,
    App,
    Cron,
    CronDiff,
    CronInvoker,
    CronJob,
    Every,
    FunctionError,
    InvalidArgs,
    InvalidCron,
    InvalidTime,
    JobEvent,
    JobInvoker,
    MutationCtx,
    Namespace,
    QueryCtx,
    Retry,
    UnknownCron,
)
from runtime.invoker import may_call
from runtime.testing import START, Harness

LAWS = settings(max_examples=12, deadline=None, derandomize=True, database=None)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@dataclass
class Seen:
    """Functions that note who called them."""

    namespace: Namespace[Any] = field(default_factory=lambda: Namespace("seen"))
    invokers: list[CronInvoker | JobInvoker] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)
    failing: int = 0

    def __post_init__(self) -> None:
        @self.namespace.mutation(access="system")
        async def write(ctx: MutationCtx) -> str:
            self.note(ctx.invoker)
            return "written"

        @self.namespace.action(retry=Retry(3, backoff="constant", base=10, jitter=0))
        async def act(ctx: ActionCtx, *, n: int = 0) -> int:
            self.note(ctx.invoker)
            self.keys.append(ctx.idempotency_key)
            if self.failing:
                self.failing -= 1
                raise FunctionError("NO", "not yet")
            return n

        @self.namespace.action
        async def slow(ctx: ActionCtx) -> None:
            self.note(ctx.invoker)
            await ctx.sleep(5400)

    def note(self, invoker: Any) -> None:
        """Keep an invoker that a run was given."""
        assert isinstance(invoker, CronInvoker | JobInvoker)
        self.invokers.append(invoker)

    def app(self, *jobs: CronJob, **options: Any) -> App[Any]:
        """Return an app with these functions and these crons."""
        app = App("unused.db", namespaces=[self.namespace], **options)
        app.crons.define_crons(jobs)
        return app

    @property
    def ticks(self) -> list[datetime]:
        """What the runs were told of their time."""
        return [invoker.scheduled_at for invoker in self.invokers]


# ------------------------------------------------------------------ the invoker


@pytest.mark.parametrize("path", ["seen:write", "seen:act"])
async def test_a_run_is_told_its_tick(path: str) -> None:
    """A tick's run must know its cron, tick, real time and a stable occurrence; a mutation and an action alike."""
    seen = Seen()
    async with Harness(seen.app(CronJob("daily", Cron("30 9 * * *", tz="Europe/Paris"), path))) as h:
        await h.advance(days=1)
        (invoker,) = seen.invokers
        (job,) = await h.runs()
    tick = datetime(2026, 1, 1, 8, 30, tzinfo=UTC)
    assert isinstance(invoker, CronInvoker)
    assert (invoker.type, invoker.source, invoker.cron, invoker.attempt) == ("system", "cron", "daily", 1)
    assert (invoker.scheduled_at, invoker.dispatched_at) == (tick, tick)
    assert (invoker.job_id, invoker.occurrence_id) == (job.id, "daily@2026-01-01T08:30:00Z")
    assert (invoker.catch_up_window, invoker.skipped_ticks) == (None, 0)
    assert (job.cron, job.scheduled_at, job.state) == ("daily", tick, "success")
    assert may_call(invoker, "system")


async def test_the_jobs_of_a_cron_are_listed() -> None:
    """They are jobs like all others: by the cron's name, through the scheduler and through SQL."""
    seen = Seen()

    @seen.namespace.query
    async def names(ctx: QueryCtx) -> list[str]:
        rows = await ctx.db.fetch_all("SELECT DISTINCT cron FROM _scheduled_functions WHERE cron IS NOT NULL")
        return [row["cron"] for row in rows]

    app: App[Any] = App("app.db", namespaces=[seen.namespace])
    app.crons.interval("one", "seen:write", hours=1)
    app.crons.interval("other", "seen:write", hours=2)
    async with Harness(app) as h:
        await h.scheduler.run_now("seen:write")
        await h.advance(hours=3)
        jobs = await h.scheduler.list(cron="one").page()
        assert [(job.cron, job.path, job.state) for job in jobs.items] == [("one", "seen:write", "success")] * 4
        assert await h.scheduler.list(cron="other", state="failed").count() == 0
        assert sorted(await h.call(names)) == ["one", "other"]
        with pytest.raises(InvalidArgs, match="cron"):
            h.scheduler.list(cron="")


async def test_a_harness_can_keep_crons_silent() -> None:
    """For tests that are about something else: nothing ticks, over restarts too, but by hand."""
    seen = Seen()
    app: App[Any] = App("app.db", namespaces=[seen.namespace])
    app.crons.interval("sweep", "seen:write", minutes=5)
    async with Harness(app, crons=False) as h:
        job_id = await h.scheduler.run_after(3_600, "seen:write")
        assert [job.id for job in await h.advance(days=30)] == [job_id]
        await h.restart()
        assert await h.advance(days=1) == []
        await app.crons.run_now("sweep")
        assert [job.cron for job in await h.settle()] == ["sweep"]
    async with Harness(app) as h:
        assert len(await h.advance(hours=1)) == 12


async def test_retries_keep_the_tick_and_the_key() -> None:
    """Attempts of one run must share tick, occurrence and idempotency key, and differ in attempt and real time."""
    seen = Seen(failing=2)
    async with Harness(seen.app(CronJob("act", Cron("0 1 * * *"), "seen:act"))) as h:
        await h.advance(hours=2)
        (run,) = await h.crons.runs("act")
    assert [invoker.attempt for invoker in seen.invokers] == [1, 2, 3]
    assert seen.ticks == [START + HOUR] * 3
    assert [i.dispatched_at - START - HOUR for i in seen.invokers] == [timedelta(seconds=s) for s in (0, 10, 20)]
    assert set(seen.keys) == {"act@2026-01-01T01:00:00Z"}
    assert (run.state, run.attempts, run.reason, run.manual, run.lag) == (
        "success",
        3,
        None,
        False,
        timedelta(seconds=20),
    )


async def test_a_run_by_hand_is_the_admins_and_leaves_the_schedule_alone() -> None:
    """The same path with the source "admin", its own time, and the next tick where it was; a paused one runs too."""
    seen = Seen()
    async with Harness(seen.app(CronJob("daily", Cron("0 9 * * *"), "seen:act", {"n": 7}))) as h:
        before = await h.crons.get("daily")
        job_id = await h.crons.run_now("daily")
        asked = datetime(2025, 6, 1, tzinfo=UTC)
        await h.crons.pause("daily")
        other = await h.crons.run_now("daily", scheduled_at=asked)
        await h.crons.resume("daily")
        await h.settle()
        assert await h.crons.get("daily") == before
        job = await h.scheduler.get(job_id)
        assert job is not None
        assert (job.state, job.result, job.cron) == ("success", 7, "daily")
        runs = await h.crons.runs("daily")
        assert [(run.job_id, run.manual, run.tick) for run in runs] in (
            [(other, True, asked), (job_id, True, START)], [(job_id, True, START), (other, True, asked)],
        )  # fmt: skip
    assert [i.source for i in seen.invokers if isinstance(i, CronInvoker)] == ["admin", "admin"]
    assert seen.ticks == [START, asked]
    assert {i.dispatched_at for i in seen.invokers} == {START}
    assert seen.keys == [job_id, other]


async def test_what_a_replay_is_told() -> None:
    """Under `all` each run must know the window; what the caps dropped is counted once, on the first run."""
    seen = Seen()
    job = CronJob("all", Every(hours=1), "seen:write", missed_tick_policy="all", max_catch_up_ticks=3)
    async with Harness(seen.app(job)) as h:
        await h.restart(down_for=10 * HOUR + timedelta(minutes=5))
        await h.advance(hours=1)
        skips = [run for run in await h.crons.runs("all") if run.state == "skipped"]
    cron = [i for i in seen.invokers if isinstance(i, CronInvoker)]
    window = (START + 8 * HOUR, START + 10 * HOUR)
    assert [i.scheduled_at - START for i in cron] == [n * HOUR for n in (0, 8, 9, 10, 11)]
    assert [i.catch_up_window for i in cron] == [None, window, window, window, None]
    assert [i.skipped_ticks for i in cron] == [0, 7, 0, 0, 0]
    assert [(run.reason, run.skipped, run.first_tick, run.tick) for run in skips] == [
        ("cap", 7, START + HOUR, START + 7 * HOUR)
    ]


async def test_skipped_ticks_are_told_under_latest_too() -> None:
    """`latest` drops older ticks by policy: the run must know how many, and no window."""
    seen = Seen()
    async with Harness(seen.app(CronJob("latest", Every(hours=1), "seen:write"))) as h:
        await h.restart(down_for=10 * HOUR)
    newest = seen.invokers[-1]
    assert isinstance(newest, CronInvoker)
    assert (newest.scheduled_at, newest.skipped_ticks, newest.catch_up_window) == (START + 10 * HOUR, 9, None)


async def test_overlapping_ticks_are_counted_for_the_next_run() -> None:
    """A tick that falls into a running one must be skipped as `overlap`, and the next run is told."""
    seen = Seen()
    async with Harness(seen.app(CronJob("slow", Every(hours=1), "seen:slow"))) as h:
        await h.advance(hours=2)
        reasons = [run.reason for run in await h.crons.runs("slow")]
    assert seen.ticks == [START, START + 2 * HOUR]
    assert [i.skipped_ticks for i in seen.invokers if isinstance(i, CronInvoker)] == [0, 1]
    assert sorted(reason or "" for reason in reasons) == ["", "", "overlap"]


async def test_jitter_is_in_the_dispatch_and_not_in_the_tick() -> None:
    """`scheduled_at` must be the tick; the dispatch comes up to the jitter later, the same again after a restart."""
    seen = Seen()
    async with Harness(seen.app(CronJob("spread", Cron("0 * * * *"), "seen:write", jitter="30m"))) as h:
        await h.advance(days=1)
        await h.restart()
    assert seen.ticks == [START + n * HOUR for n in range(1, 24)] + seen.ticks[23:]
    delays = [i.dispatched_at - i.scheduled_at for i in seen.invokers]
    assert all(timedelta() <= delay < timedelta(minutes=30) for delay in delays)
    assert len(set(delays)) > 15


async def test_the_resolver_and_the_hooks_hear_of_the_cron() -> None:
    """An app's resolver must see the cron's invoker, and an event the cron's name; a plain job has none."""
    seen, asked, events = Seen(), [], []

    async def auth(request: Any) -> str:
        asked.append((request.invoker.source, getattr(request.invoker, "cron", None)))
        return "somebody"

    app = App("unused.db", auth=auth, namespaces=[seen.namespace])
    app.crons.interval("act", "seen:act", hours=1)

    @app.on_job_finished
    def heard(event: JobEvent) -> None:
        events.append(event.cron)

    async with Harness(app) as h:
        await h.scheduler.run_now("seen:act")
        await h.crons.run_now("act")
        await h.settle()
    assert sorted(asked, key=str) == [("admin", "act"), ("cron", "act"), ("scheduler", None)]
    assert sorted(events, key=str) == [None, "act", "act"]


@LAWS
@given(
    st.sampled_from([
        Every(seconds=90), Every(hours=7), Cron("*/20 * * * *"), Cron("0 3 * * MON", tz="Asia/Tokyo"),
        Cron("30 2 * * *", tz="Europe/Berlin"), Cron("0 0 L * *"), Cron("15 */6 * * *", tz="Australia/Lord_Howe"),
    ]),
    st.datetimes(datetime(2026, 3, 27), datetime(2026, 10, 30)),
    st.integers(0, 4),
)  # fmt: skip
def test_the_preview_is_what_happens(schedule: Any, start: datetime, jitter_minutes: int) -> None:
    """`next_ticks` must name the ticks that then run, each once, in order."""
    from runtime.testing import simulate

    seen = Seen()
    every = schedule if isinstance(schedule, Every) else None
    jitter = jitter_minutes * 60 if every is None else min(jitter_minutes * 60, every.every_us // 2_000_000)
    app = seen.app(CronJob("c", schedule, "seen:write", jitter=jitter))

    async def scenario(h: Harness[Any]) -> list[datetime]:
        seen.invokers.clear()  # an interval has run once, at its activation
        preview = list(await h.crons.next_ticks("c", 12))
        await h.advance_to(preview[9] + timedelta(minutes=4))
        again = await h.crons.next_ticks("c", 2)
        ran = len(seen.ticks)
        assert list(again) == [*preview, *again][ran : ran + 2] or ran > 10
        return preview

    preview = simulate(app, scenario, start=start.replace(tzinfo=UTC))
    assert len(seen.ticks) >= 10
    assert seen.ticks[:12] == preview[: len(seen.ticks)]


# ------------------------------------------------------------------ definitions and starts


def crons_of(names: dict[str, int]) -> list[CronJob]:
    """Return crons by name, each every so many hours."""
    return [CronJob(name, Every(hours=hours), "seen:write") for name, hours in names.items()]


contents = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 3), max_size=4)


@LAWS
@given(st.lists(contents, min_size=1, max_size=4))
def test_a_start_is_a_diff_by_name(versions: list[dict[str, int]]) -> None:
    """Of two versions of the code, the start must add, update, leave and delete by name; a second one does nothing."""
    import asyncio
    import tempfile

    async def run(folder: str) -> None:
        before: dict[str, int] = {}
        for wanted in versions:
            for again in range(2):
                app = Seen().app(*crons_of(wanted))
                async with Harness(app, db=f"{folder}/app.db") as h:
                    await h.crons.register("own", Every(hours=9), "seen:write")  # never touched by any of it
                    staged = app.crons.staged
                    assert staged is not None
                    assert staged.active
                    old = wanted if again else before
                    assert staged.diff == CronDiff(
                        added=tuple(sorted(wanted.keys() - old.keys())),
                        updated=tuple(sorted(n for n in wanted.keys() & old.keys() if wanted[n] != old[n])),
                        unchanged=tuple(sorted(n for n in wanted.keys() & old.keys() if wanted[n] == old[n])),
                        deleted=tuple(sorted(old.keys() - wanted.keys())),
                    )
                    assert [info.name async for info in h.crons.list()] == sorted([*wanted, "own"])
            before = wanted

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))


async def test_a_change_is_told_to_the_log_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log must name what changed, at most 20 names of each; a start that changes nothing is silent."""
    caplog.set_level(logging.INFO, "actor_scheduler")
    many = {f"c{n:02}": 1 for n in range(25)}

    async def logged(app: App[Any]) -> list[str]:
        caplog.clear()
        async with Harness(app, db=tmp_path / "app.db"):
            return [record.getMessage() for record in caplog.records if "manifest" in record.getMessage()]

    (first,) = await logged(Seen().app(*crons_of(many)))
    assert first.startswith("crons: manifest 1 is active: added 25: c00, c01,")
    assert first.endswith("c19 and 5 more")
    assert await logged(Seen().app(*crons_of(many))) == []
    (third,) = await logged(Seen().app(*crons_of({"c00": 2, "c01": 1, "new": 1})))
    assert third.startswith("crons: manifest 2 is active: added 1: new; updated 1: c00; deleted 23: c02, c03,")
    assert await logged(Seen().app()) == ["crons: manifest 3 is active: deleted 3: c00, c01, new"]
    assert await logged(Seen().app()) == []


async def test_a_start_names_the_functions_that_crons_miss(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A function that was taken out while users' crons run it: told at the start, not by the first tick alone."""
    seen, other = Seen(), Namespace[Any]("other")

    @other.mutation(aliases=["seen:renamed"])
    async def gone(ctx: MutationCtx) -> None: ...

    app = seen.app()
    app.include(other)
    async with Harness(app, db=tmp_path / "app.db") as h:
        for n in range(3):
            await h.crons.register(f"user/{n}", Every(hours=1), "other:gone")
        await h.crons.register("fine", Every(hours=1), "seen:write")
    assert "does not have" not in caplog.text
    async with Harness(seen.app(), db=tmp_path / "app.db", start=START + HOUR / 2):
        assert "crons run functions that this process does not have" in caplog.text
        assert "1: other:gone" in caplog.text


async def test_an_expression_alone_is_a_schedule_of_utc() -> None:
    """Registered at run time: kept as a Cron; one that can't be read is refused with its field."""
    async with Harness(Seen().app()) as h:
        await h.crons.register("text", "@daily", "seen:write")
        for wanted in (Cron("@daily"), Cron("0 4 * * *")):
            info = await h.crons.get("text")
            assert info is not None
            assert info.schedule == wanted
            await h.crons.register("text", "0  4 * * *", "seen:write")
        with pytest.raises(InvalidCron, match="cron 'text': schedule: .*61"):
            h.crons.register("text", "61 4 * * *", "seen:write")


async def test_an_unchanged_interval_keeps_its_next_tick(tmp_path: Path) -> None:
    """A hundred starts must change nothing; a changed schedule counts from now."""
    seen = Seen()
    for hours in range(3):
        app = seen.app(CronJob("i", Every(hours=10), "seen:write"))
        async with Harness(app, db=tmp_path / "app.db", start=START + hours * HOUR) as h:
            info = await h.crons.get("i")
            assert info is not None
            assert info.next_at == START + 10 * HOUR
    async with Harness(
        seen.app(CronJob("i", Every(hours=5), "seen:write")), db=tmp_path / "app.db", start=START + 4 * HOUR
    ) as h:
        info = await h.crons.get("i")
        assert info is not None
        assert info.next_at == START + 9 * HOUR
    assert seen.ticks == [START]


async def test_manual_activation_waits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The manifest before must go on until `activate`; then the staged one holds, and what it lacks is gone."""
    db, old = tmp_path / "app.db", Seen()
    async with Harness(old.app(CronJob("old", Every(hours=1), "seen:write")), db=db) as h:
        await h.advance(hours=1)
    new = Seen()
    app = new.app(CronJob("new", Every(hours=1), "seen:act"), cron_activation="manual")
    async with Harness(app, db=db, start=START + 2 * HOUR) as h:
        staged = app.crons.staged
        assert staged is not None
        diff = CronDiff(added=("new",), deleted=("old",))
        assert staged == (2, False, diff)
        assert (
            "crons: manifest 2 is staged and waits for app.crons.activate(2): added 1: new; deleted 1: old;"
            " until then those of the manifest before go on"
        ) in caplog.text
        await h.advance(hours=1)
        assert [i.cron for i in new.invokers if isinstance(i, CronInvoker)] == ["old", "old"]
        manifests = await app.crons.manifests()
        assert [(m.version, m.state, m.crons) for m in manifests] == [(2, "staged", ("new",)), (1, "active", ("old",))]
        assert app.crons.staged == (2, False, diff)
        assert await app.crons.activate(2) == diff
        assert app.crons.staged == (2, True, diff)
        await h.settle()
        assert [info.name async for info in h.crons.list()] == ["new"]
        assert await app.crons.activate(2) == CronDiff(unchanged=("new",))
        assert [(m.version, m.state) for m in await app.crons.manifests(limit=1)] == [(2, "active")]
        assert await app.crons.activate(1) == CronDiff(added=("old",), deleted=("new",))
        for wrong in (0, 3, -1, 2**63 - 1, 2**63, 10**30, -(10**30), 10**5000):
            with pytest.raises(InvalidArgs, match="there is no cron manifest"):
                await app.crons.activate(wrong)
        assert app.crons.staged == (1, True, CronDiff(added=("old",), deleted=("new",)))
        for odd in ("1", None, True, 1.0):
            with pytest.raises(InvalidArgs, match="whole number"):
                await app.crons.activate(odd)  # type: ignore[arg-type]
        with pytest.raises(InvalidArgs, match="limit must be"):
            await app.crons.manifests(limit=0)


async def test_a_first_manifest_that_waits_has_none_before_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The log must name what the activation would add, and no manifest before."""
    app = Seen().app(*crons_of({"a": 1, "b": 1}), cron_activation="manual")
    async with Harness(app, db=tmp_path / "app.db") as h:
        (told,) = [record.getMessage() for record in caplog.records if "manifest" in record.getMessage()]
        assert told == "crons: manifest 1 is staged and waits for app.crons.activate(1): added 2: a, b"
        assert [info.name async for info in h.crons.list()] == []
        await app.crons.activate(1)
        assert app.crons.staged == (1, True, CronDiff(added=("a", "b")))


async def test_activation_checks_every_target_in_this_process(tmp_path: Path) -> None:
    """A version that names what this process does not have must be refused, all of it named, and nothing changes."""
    db, namespace = tmp_path / "app.db", Namespace[Any]("gone")

    @namespace.mutation
    async def away(ctx: MutationCtx, *, a: int) -> None: ...

    @namespace.mutation
    async def turned(ctx: MutationCtx) -> None: ...

    @namespace.mutation
    async def narrowed(ctx: MutationCtx, *, a: int) -> None: ...

    app = App("unused.db", namespaces=[namespace])
    app.crons.interval("away", "gone:away", {"a": 1}, hours=1)
    app.crons.interval("turned", turned, hours=1)
    app.crons.interval("narrowed", narrowed.bind(a=1), hours=1)
    async with Harness(app, db=db):
        pass
    later = Namespace[Any]("gone")

    @later.action(name="turned")
    async def turned_action(ctx: ActionCtx) -> None: ...

    @later.mutation(name="narrowed")
    async def narrowed_more(ctx: MutationCtx, *, a: str, b: int) -> None: ...

    app = App("unused.db", namespaces=[later])
    async with Harness(app, db=db):
        with pytest.raises(InvalidCron) as caught:
            await app.crons.activate(1)
        said = str(caught.value)
        assert [line.split(": ")[:2] for line in said.split("\n")] == [
            ["cron 'away'", "target"], ["cron 'narrowed'", "args"], ["cron 'turned'", "target"],
        ]  # fmt: skip
        assert "gone:turned was a mutation and is an action now" in said
        assert [(m.version, m.state) for m in await app.crons.manifests()] == [(2, "active"), (1, "retired")]


@pytest.mark.parametrize("activation", ["automatic", "manual"])
async def test_a_refused_start_changes_nothing(activation: str, tmp_path: Path) -> None:
    """A definition that a runtime cron has taken must stop the start, say so, and leave the file to the next one."""
    db = tmp_path / "app.db"
    async with Harness(Seen().app(), db=db) as h:
        await h.crons.register("mine", Every(hours=1), "seen:write")
    app = Seen().app(*crons_of({"mine": 2, "b": 2}), cron_activation=activation)
    with pytest.raises(InvalidCron, match=r"'mine': rename the definition, or delete .*`crons\.delete\(name\)`"):
        async with Harness(app, db=db):
            pass
    async with Harness(Seen().app(), db=db) as h:
        assert [(info.name, info.origin) async for info in h.crons.list()] == [("mine", "runtime")]


# ------------------------------------------------------------------ an outside clock


async def test_an_outside_clock_dispatches_one_run_per_tick() -> None:
    """However often a tick is sent, snapped from any moment in it, it must run once; and it never fires by itself."""
    seen = Seen()
    async with Harness(seen.app(CronJob("out", Cron("0 * * * *"), "seen:slow", clock="external"))) as h:
        await h.advance(minutes=150)
        assert seen.invokers == []
        first = await h.crons.dispatch("out", nominal=START + HOUR + timedelta(minutes=7))
        again = await h.crons.dispatch("out", nominal=(START + HOUR).timestamp())
        newest = await h.crons.dispatch("out")
        assert (first.status, first.tick, again.status, again.job_id) == (
            "accepted", START + HOUR, "duplicate", first.job_id,
        )  # fmt: skip
        assert (newest.status, newest.tick) == ("skipped", START + 2 * HOUR)  # the run before had not ended
        assert newest.reason == "overlap"
        with pytest.raises(UnknownCron):
            await h.crons.dispatch("nobody")
        with pytest.raises(InvalidTime, match="milliseconds"):
            await h.crons.dispatch("out", nominal=1_767_225_600_000)
        with pytest.raises(InvalidArgs):
            await h.crons.dispatch(3)  # type: ignore[arg-type]
        await h.crons.register("in", Cron("0 * * * *"), "seen:act")
        with pytest.raises(InvalidCron, match="fires by itself"):
            await h.crons.dispatch("in")
    assert seen.ticks == [START + HOUR]
