"""What operators do through an app's own handles: search, promote, cancel many, stage crons, and call by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from runtime import (
    ActionCtx,
    AdminInvoker,
    App,
    Counted,
    Cron,
    CronJob,
    Every,
    InvalidArgs,
    InvalidCron,
    JobInvoker,
    LocalInvoker,
    MutationCtx,
    Namespace,
    NotStarted,
    RpcInvoker,
)
from runtime.invoker import may_call
from runtime.testing import START, Harness


def make(**options: Any) -> tuple[App[Any], list[str]]:
    """Return an app and what has run in it."""
    ns, ran = Namespace[Any]("ops"), list[str]()

    @ns.mutation
    async def note(ctx: MutationCtx, *, who: str = "note") -> None:
        ran.append(who)

    @ns.mutation
    async def sweep(ctx: MutationCtx) -> int:
        late = await ctx.scheduler.run_after(60, "ops:note", {"who": "late"})
        assert await ctx.scheduler.promote(late)
        return await ctx.scheduler.list(text="CRY").cancel()

    @ns.action
    async def fails(ctx: ActionCtx) -> None:
        ran.append("fails")
        raise OSError("no route to Mars")

    return App("app.db", namespaces=[ns], **options), ran


async def test_a_promoted_job_runs_now_and_remembers_what_was_asked() -> None:
    """In a day, in a lane behind another, or between two attempts."""
    app, ran = make()
    async with Harness(app) as h:
        late = await h.scheduler.run_after(86_400, "ops:note")
        second = await h.scheduler.run_after(90_000, "ops:note", {"who": "lane"}, lane="l")
        first = await h.scheduler.run_after(80_000, "ops:note", {"who": "head"}, lane="l")
        again = await h.scheduler.run_now("ops:fails", retry=2)
        await h.settle()
        assert ran == ["fails"]
        assert [await h.scheduler.promote(job_id) for job_id in (late, second, again)] == [True] * 3
        await h.settle()
        assert sorted(ran) == ["fails", "fails", "lane", "note"]
        assert [await h.scheduler.promote(job_id) for job_id in (late, again, "0" * 32)] == [False] * 3
        job = await h.scheduler.get(late)
        assert job is not None
        assert ((job.scheduled_at - START).total_seconds(), job.started_at) == (86_400, START)
        await h.advance(days=1)
        assert ran[-1] == "head"
        assert await h.scheduler.promote(first) is False


async def test_a_mark_keeps_what_comes_later_out() -> None:
    """On the app, and in a mutation, where its own jobs come later, too; an empty app has a mark as well."""
    ns, seen = Namespace[Any]("ops"), list[tuple[int, int]]()

    @ns.mutation
    async def note(ctx: MutationCtx) -> None: ...

    @ns.mutation
    async def sweep(ctx: MutationCtx) -> None:
        waiting = ctx.scheduler.list(fn=note, state="pending")
        mark = await waiting.mark()
        await ctx.scheduler.run_after(60, note.bind())
        seen.append((await waiting.count(), await waiting.until(mark).count()))
        seen.append((await waiting.until(mark).cancel(), await waiting.count()))

    app = App[Any]("app.db", namespaces=[ns])
    async with Harness(app) as h:
        every = h.scheduler.list(fn=note)
        empty = await every.mark()
        ids = [await h.scheduler.run_after(60 + at, note.bind()) for at in range(3)]
        mark = await every.mark()
        await h.call(sweep)
        assert seen == [(4, 3), (3, 1)]
        await h.advance(seconds=1)
        await h.scheduler.run_after(60, note.bind())
        assert await every.until(empty).count() == 0
        assert [job.id async for job in every.until(mark)] == ids[::-1]
        assert await every.until(mark).count_up_to(3) == Counted(3, complete=True)
        assert await every.until(mark).drop() == 3
        assert await every.until(mark).page() == await every.until(empty).page()


async def test_many_are_found_and_canceled_by_a_text() -> None:
    """On the app page by page, in a mutation with it; a search has its limits, and says so."""
    app, ran = make()
    async with Harness(app) as h:
        for at in range(3):
            await h.scheduler.run_after(60, "ops:note", {"who": "Cry"}, key=f"cry-{at}")
        await h.scheduler.run_after(60, "ops:note", {"who": "Cry"})
        await h.scheduler.run_now("ops:fails")
        await h.settle()
        assert [job.error for job in (await h.scheduler.list(text="MARS").page()).items] == [
            "OSError: no route to Mars"
        ]
        assert await h.scheduler.list(text="Cry").count_up_to() == Counted(4, complete=True)
        assert await h.scheduler.list(text="Cry").count_up_to(1) == Counted(0, complete=False)
        assert await h.scheduler.list(text="cry-1").cancel() == 1
        assert await h.call("ops:sweep") == 2
        await h.advance(seconds=120)
        assert ran == ["fails", "late", "Cry"]
        for wrong in ("", "x" * 201, 7, "\ud800"):
            with pytest.raises(InvalidArgs):
                h.scheduler.list(text=wrong)  # type: ignore[arg-type]
        for rows in (0, 1_000_001, True):
            with pytest.raises(InvalidArgs):
                await h.scheduler.list().count_up_to(rows)


async def test_an_overview_shows_what_waits_and_what_comes() -> None:
    """Jobs and crons, in one look."""
    app, _ = make()
    app.crons.interval("tick", "ops:note", minutes=10)
    async with Harness(app) as h:
        await h.settle()
        await h.scheduler.run_after(60, "ops:note", key="k")
        await h.scheduler.run_now("ops:fails")
        await h.settle()
        overview = await h.scheduler.overview()
        assert (overview.pending, overview.due, overview.oldest_due_at, overview.failed, overview.ended) == (
            1, 0, None, 1, 2,
        )  # fmt: skip
        assert (overview.crons, overview.crons_paused, overview.crons_troubled) == (1, 0, 0)
        coming = await h.scheduler.upcoming()
        assert [(each.kind, (each.at - START).total_seconds(), each.cron, each.key) for each in coming] == [
            ("job", 60, None, "k"), ("cron", 600, "tick", None),
        ]  # fmt: skip
        assert len(await h.scheduler.upcoming(limit=1)) == 1
    with pytest.raises(NotStarted):
        await app.scheduler.overview()


async def test_crons_and_their_runs_come_in_pages() -> None:
    """By name, and the newest first; the last page says that it is the last."""
    app, _ = make()
    for name in ("a", "ab", "b"):
        app.crons.interval(name, "ops:note", minutes=1)
    async with Harness(app) as h:
        await h.advance(minutes=3)
        page = await h.crons.page("a", limit=1)
        assert ([info.name for info in page.items], page.next_cursor is None) == (["a"], False)
        page = await h.crons.page("a", limit=1, cursor=page.next_cursor)
        assert ([info.name for info in page.items], page.next_cursor) == (["ab"], None)
        whole = await h.crons.runs()
        found, cursor = [], None
        while True:
            runs = await h.crons.runs_page(cursor=cursor, limit=5)
            found += runs.items
            cursor = runs.next_cursor
            if cursor is None:
                break
        assert sorted(run.job_id or "" for run in found) == sorted(run.job_id or "" for run in whole)
        assert (await h.crons.runs_page("a", state="failed")).items == []
        assert len(await h.crons.runs("a", state="success")) == 4
        for wrong in ({"state": "late"}, {"limit": 0}, {"cursor": "x"}, {"cursor": 5}):
            with pytest.raises(InvalidArgs):
                await h.crons.runs_page(**wrong)  # type: ignore[arg-type]


# ------------------------------------------------------------------ a deploy pushes its crons before its code


async def test_what_was_staged_waits_and_the_code_that_has_it_finds_it(tmp_path: Path) -> None:
    """It changes nothing by itself, over restarts; the start of code with the same definitions activates that version."""
    app, ran = make()
    app.crons.interval("old", "ops:note", {"who": "old"}, minutes=10)
    new = [CronJob("new", Every(minutes=5), "ops:note", {"who": "new"})]
    async with Harness(app, db=tmp_path / "app.db") as h:
        await h.settle()
        staged = await h.crons.stage(new)
        assert (staged.active, staged.diff.added, staged.diff.deleted) == (False, ("new",), ("old",))
        assert await h.crons.stage(new) == staged
        assert h.crons.staged is not None
        assert h.crons.staged.active
        await h.advance(minutes=10)
        assert ran == ["old", "old"]
    after, ran = make()
    after.crons.define_crons(new)
    async with Harness(after, db=tmp_path / "app.db") as h:
        await h.settle()
        assert h.crons.staged is not None
        assert (h.crons.staged.version, h.crons.staged.active) == (staged.version, True)
        assert ran == ["new"]


@pytest.mark.parametrize(("kinds", "found"), [({"ops:note": "mutation"}, True), ({}, False)])
async def test_what_only_the_code_to_come_has_is_found_by_it_when_its_kind_was_said(
    kinds: dict[str, Any], found: bool, tmp_path: Path
) -> None:
    """A deploy pushes crons of functions that the running process has never heard of."""
    new = [CronJob("new", Every(minutes=5), "ops:note", {"who": "new"})]
    async with Harness(App[Any](tmp_path / "app.db"), db=tmp_path / "app.db") as h:
        staged = await h.crons.stage(new, kinds=kinds)
    after, _ = make()
    after.crons.define_crons(new)
    async with Harness(after, db=tmp_path / "app.db") as h:
        assert h.crons.staged is not None
        assert (h.crons.staged.version == staged.version) is found
        assert h.crons.staged.active


async def test_a_staged_version_can_be_activated_or_is_retired_by_the_next_start(tmp_path: Path) -> None:
    """A start of the old code puts it aside, on record; it can be activated all the same."""
    app, _ = make()
    app.crons.interval("old", "ops:note", minutes=10)
    async with Harness(app, db=tmp_path / "app.db") as h:
        staged = await h.crons.stage([CronJob("new", Cron("0 * * * *", tz="Europe/Paris"), "ops:note")])
        await h.restart()
        assert [info.state for info in await h.crons.manifests()] == ["retired", "active"]
        assert (await h.crons.activate(staged.version)).added == ("new",)
        assert [info.name async for info in h.crons.list()] == ["new"]


async def test_what_is_staged_is_checked_as_far_as_it_can_be() -> None:
    """A function that is not here yet may come with the code; everything else that is wrong is told at once."""
    app, _ = make()
    async with Harness(app) as h:
        staged = await h.crons.stage([CronJob("a", "0 * * * *", "mail:later", {"x": 1})])
        with pytest.raises(InvalidCron, match="mail:later"):
            await h.crons.activate(staged.version)
        await h.crons.register("taken", "0 * * * *", "ops:note")
        for wrong, said in (
            ([CronJob("a", "x", "ops:note")], "schedule"), ([CronJob("a", "0 * * * *", "no path")], "target"),
            ([CronJob("a", "0 * * * *", "ops:note", {"nobody": 1})], "args"),
            ([CronJob("a", "0 * * * *", "ops:note")] * 2, "taken by another"),
            ([CronJob("taken", "0 * * * *", "ops:note")], "registered at run time"), (["a"], "takes CronJob"),
        ):  # fmt: skip
            with pytest.raises(InvalidCron, match=said):
                await h.crons.stage(wrong)  # type: ignore[arg-type]
        assert len(await h.crons.manifests()) == 1
    with pytest.raises(NotStarted):
        await app.crons.stage([])


# ------------------------------------------------------------------ who calls


def test_an_operator_may_call_every_function() -> None:
    """As the scheduler may; clients from outside and the app's own code may not."""
    admin = AdminInvoker("key-1")
    assert (admin.type, admin.source, admin.operator) == ("system", "admin", "key-1")
    job = JobInvoker("id", 1, 0, 0, "o")
    allowed = {
        invoker: [may_call(invoker, access) for access in ("public", "internal", "system")]
        for invoker in (admin, LocalInvoker(), RpcInvoker())
    }
    assert list(allowed.values()) == [[True] * 3, [True, True, False], [True, False, False]]
    assert may_call(job, "system")
