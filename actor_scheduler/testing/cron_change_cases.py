"""More of what every store must do: crons that are changed at run time, and definitions that are staged and activated.

A part of the conformance suite: `conformance.CASES` has these too.
"""

# ruff: noqa: D401 - a case's docstring is the rule it pins

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from actor_scheduler import codec
from actor_scheduler.crons.catchup import CatchUp
from actor_scheduler.crons.records import CronDiff, Staged
from actor_scheduler.crons.schedule import Cron, Every
from actor_scheduler.errors import InvalidArgs, InvalidCron, UnknownCron
from actor_scheduler.model import CRONS
from actor_scheduler.store.base import Mutate, RunDue, Tx
from actor_scheduler.store.cron_units import (
    ActivateCrons,
    ChangeCron,
    DeleteCron,
    DispatchCron,
    PauseCron,
    PutCron,
    ResumeCron,
    RunCron,
    StageCrons,
)
from actor_scheduler.testing.bench import Boom, opened, refused
from actor_scheduler.testing.clock import START_US
from actor_scheduler.testing.cron_bench import MINUTE, CronBench, asks, cron, refused_boom

if TYPE_CHECKING:
    from collections.abc import Sequence

    from actor_scheduler.crons.records import ManifestInfo
    from actor_scheduler.store.cron_units import CronUnit
    from actor_scheduler.testing.bench import Case, MakeStore

_KEPT: Final = 20  # manifests that do not hold any more


# ------------------------------------------------------------------ changing at run time


async def registering_again_changes_nothing(make_store: MakeStore) -> None:
    """An equal definition has no effect, also of a cron that is due, or paused."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron()), PutCron(cron("p")), PauseCron("p", "later"))
        before = (await crons.info(), await crons.info("p"), set(crons.index))
        bench.clock.move_to(START_US + 7 * MINUTE)
        await crons.do(*[PutCron(cron(name)) for name in "cp" * 3])
        assert (bench.last.effects.pending, bench.last.effects.gone) == ([], [])
        assert (await crons.info(), await crons.info("p"), set(crons.index)) == before


async def a_changed_definition_keeps_its_time_where_its_ticks_are_the_same(make_store: MakeStore) -> None:
    """Other arguments or rules hold from the next run on; another schedule counts from now, what was due is stale."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        old, new = cron("i", Every(minutes=7)), cron("i", Every(minutes=11))
        await crons.do(PutCron(cron()), PutCron(old))
        await crons.fire(0)
        await crons.run()
        bench.clock.move_to(START_US + 13 * MINUTE)
        entry = min(crons.index, key=lambda waits: waits.fire_at_us)
        await crons.do(PutCron(cron(args=codec.encode({"x": 1}), description="new")), PutCron(new))
        assert (entry in crons.index, await crons.waits_for()) == (True, 5 * MINUTE)
        assert await crons.waits_for("i") == 24 * MINUTE
        await crons.do(PutCron(cron(schedule=Cron("*/6 * * * *"))))
        assert await crons.waits_for() == 18 * MINUTE
        assert await crons.history() == [("stale_manifest", 5, 10, 2)]
        assert await crons.history("i") == [("success", 0), ("stale_manifest", 7, 7, 1)]
        await crons.fire(18 * MINUTE)
        await crons.run()
        assert await crons.history() == [("stale_manifest", 5, 10, 2), ("success", 18)]
        assert (await crons.runs())[0].skipped == 0


async def a_change_there_and_back_loses_no_entry(make_store: MakeStore) -> None:
    """In one transaction: paused and resumed, changed and changed back, deleted and registered again."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        there, back = PutCron(cron(schedule=Cron("7 * * * *"))), PutCron(cron())
        await crons.do(back)
        await crons.do(PauseCron("c", ""), ResumeCron("c"))
        await crons.do(there, back)
        await crons.do(Mutate(asks(PauseCron("c", ""), there, back, ResumeCron("c"), there, back)))
        assert await crons.waits_for() == 5 * MINUTE
        await crons.do(DeleteCron("c"), back, DeleteCron("c"), back)
        (due,) = [RunDue(CRONS, entry) for entry in crons.index]
        bench.clock.move_to(START_US + 5 * MINUTE)
        await crons.do(PauseCron("c", ""), ResumeCron("c"), due, there, back)
        assert await crons.waits_for() == 10 * MINUTE
        await crons.do(Mutate(asks(there, back)), PauseCron("c", ""))
        assert crons.index == set()


async def occurrences_that_wait_do_not_start_after_a_change(make_store: MakeStore) -> None:
    """Of another definition, of one that is gone, paused or disabled: canceled, and shown as skipped, with why."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        changes: dict[str, tuple[CronUnit, str]] = {
            "schedule": (PutCron(cron("schedule", Cron("7 * * * *"))), "stale_manifest"),
            "path": (ChangeCron("path", lambda spec: spec._replace(path="n")), "stale_manifest"),
            "args": (ChangeCron("args", lambda spec: spec._replace(args=codec.encode({"x": 1}))), "stale_manifest"),
            "deleted": (DeleteCron("deleted"), "stale_manifest"),
            "paused": (PauseCron("paused", "stop"), "paused"),
            "disabled": (ChangeCron("disabled", lambda spec: spec._replace(enabled=False)), "disabled"),
        }
        same = {
            "described": ChangeCron("described", lambda spec: spec._replace(description="x")),
            "spelled": ChangeCron("spelled", lambda spec: spec._replace(schedule=Cron("0-59/5 * * * *"))),
        }
        rule = CatchUp("all", overlap="queue")
        await crons.do(*[PutCron(cron(name, rule=rule)) for name in (*changes, *same)])
        await crons.fire(10 * MINUTE)
        bench.clock.move_to(START_US + 11 * MINUTE)
        by_hand = (await crons.do(*[RunCron(name, None) for name in changes]))[0]
        await crons.do(*[unit for unit, _ in changes.values()], *same.values())
        await crons.run()
        for name, (_, reason) in changes.items():
            assert await crons.history(name) == [(reason, 5, 5, 1), (reason, 10, 10, 1), ("success", 11)]
            jobs = [await bench.job(run.job_id or "") for run in await crons.runs(name)]
            assert [(job.state, job.cause) for job in jobs] == [("success", None)] + [("canceled", reason)] * 2
        for name in same:
            assert await crons.history(name) == [("success", 5), ("success", 10)]
        assert (await bench.job(by_hand)).state == "success"


async def a_run_may_delete_its_own_cron(make_store: MakeStore) -> None:
    """It goes on and succeeds; nothing of the cron is due any more, and its history stays."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        bench.host.bodies["m"] = asks(DeleteCron("c"), DeleteCron("c"))
        await crons.do(PutCron(cron(rule=CatchUp("all", overlap="queue"))))
        await crons.fire(10 * MINUTE)
        await crons.run()
        assert (crons.index, await bench.ask(lambda snapshot: snapshot.get_cron("c"))) == (set(), None)
        assert await crons.history() == [("success", 5), ("stale_manifest", 10, 10, 1)]
        job = await bench.job((await crons.runs())[1].job_id or "")
        assert job.result == [True, False]
        await crons.do(PutCron(cron()))
        assert await crons.waits_for() == 15 * MINUTE


async def what_a_mutation_did_to_crons_rolls_back_with_it(make_store: MakeStore) -> None:
    """Registered, changed, paused, deleted, run by hand: nothing is left, in the store and in the index."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        names = ("changed", "deleted", "paused", "run")
        await crons.do(*[PutCron(cron(name)) for name in names])
        await crons.fire(5 * MINUTE)
        bench.clock.move_to(START_US + 12 * MINUTE)
        infos = [await crons.info(name) for name in names]
        before = (set(crons.index), await crons.runs(None))
        units = (
            PutCron(cron("new")), PutCron(cron("i", Every(seconds=1))), PutCron(cron("changed", Cron("1 1 1 1 *"))),
            DeleteCron("deleted"), PauseCron("paused", "no"), ResumeCron("paused"), RunCron("run", None),
        )  # fmt: skip

        async def nested(tx: Tx) -> None:
            for body in (asks(*units, then=Boom), asks(*units[::2], then=Boom)):
                try:
                    await tx.nested(body)
                except Boom:
                    continue

        await refused_boom(crons.do(Mutate(asks(*units, then=Boom))))
        await crons.do(Mutate(nested))
        bench.host.bodies["fails"] = asks(*units, then=Boom)
        assert [await crons.info(name) for name in names] == infos
        assert (set(crons.index), await crons.runs(None)) == before
        await crons.restart()
        assert (set(crons.index), await crons.runs(None)) == before


async def an_unknown_cron_is_refused(make_store: MakeStore) -> None:
    """By everything but a deletion, which says so."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        units: Sequence[CronUnit] = (
            PauseCron("x", ""), ResumeCron("x"), RunCron("x", None), DispatchCron("x", None),
            ChangeCron("x", lambda spec: spec),
        )  # fmt: skip
        for unit in units:
            await refused(crons.do(unit), UnknownCron)
        assert await crons.do(DeleteCron("x")) == [False]


# ------------------------------------------------------------------ what the code defines


async def _manifests(crons: CronBench) -> list[ManifestInfo]:
    found: list[ManifestInfo] = await crons.bench.ask(lambda snapshot: snapshot.manifests(1_000))
    return found


async def _states(crons: CronBench) -> dict[int, str]:
    return {manifest.version: manifest.state for manifest in reversed(await _manifests(crons))}


async def the_same_manifest_changes_nothing(make_store: MakeStore) -> None:
    """In any order, a hundred times, over restarts; also when it has none at all."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        assert await crons.do(StageCrons((), activate=True)) == [Staged(0, active=True, diff=CronDiff())]
        specs = [cron("a"), cron("b", Every(minutes=7))]
        (first,) = await crons.do(StageCrons(specs, activate=True))
        assert first == Staged(1, active=True, diff=CronDiff(added=("a", "b")))
        await crons.fire(7 * MINUTE)
        await crons.run()
        before = (await crons.info("a"), await crons.info("b"), await _manifests(crons), set(crons.index))
        same = Staged(1, active=True, diff=CronDiff(unchanged=("a", "b")))
        bench.clock.move_to(START_US + 8 * MINUTE)
        for at in range(100):
            assert await crons.do(StageCrons(specs[:: 1 - at % 2 * 2], activate=at % 3 > 0)) == [same]
            assert not same.diff.changes
            if at % 33 == 0:
                await crons.restart()
        assert (await crons.info("a"), await crons.info("b"), await _manifests(crons), set(crons.index)) == before


async def an_activation_syncs_by_name(make_store: MakeStore) -> None:
    """Equal ones keep their account, a changed schedule counts from now, who is not there any more is gone."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron("runtime")))
        await crons.do(StageCrons([cron("same"), cron("other"), cron("gone")], activate=True))
        kept = await crons.info("runtime")
        bench.clock.move_to(START_US + 6 * MINUTE)
        (staged,) = await crons.do(
            StageCrons([cron("same"), cron("other", Cron("7 * * * *")), cron("new")], activate=True)
        )
        assert staged == Staged(2, active=True, diff=CronDiff(("new",), ("other",), ("same",), ("gone",)))
        assert staged.diff.changes
        assert {name: await crons.waits_for(name) for name in ("same", "other", "new")} == {
            "same": 5 * MINUTE, "other": 7 * MINUTE, "new": 10 * MINUTE,
        }  # fmt: skip
        assert await crons.history("gone") == await crons.history("other") == [("stale_manifest", 5, 5, 1)]
        assert (await crons.info("runtime"), (await crons.info("new")).origin) == (kept, "manifest")
        assert await bench.ask(lambda snapshot: snapshot.get_cron("gone")) is None
        assert await _states(crons) == {1: "retired", 2: "active"}
        (empty,) = await crons.do(StageCrons((), activate=True))
        assert empty.diff.deleted == ("new", "other", "same")
        assert [info.name for info in (await bench.ask(lambda snapshot: snapshot.list_crons("", None, 10))).items] == [
            "runtime"
        ]


async def a_staged_manifest_waits_until_it_is_activated(make_store: MakeStore) -> None:
    """The one before holds meanwhile; a newer one takes its place; one that held may be activated again."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        for names in ("a", "ab", "abc"):
            await crons.do(StageCrons([cron(name) for name in names], activate=names == "a"))
        assert await _states(crons) == {1: "active", 2: "retired", 3: "staged"}
        await crons.restart()
        await crons.fire(5 * MINUTE)
        assert [run.cron for run in await crons.runs(None)] == ["a"]
        assert await crons.do(ActivateCrons(3)) == [CronDiff(("b", "c"), (), ("a",))]
        assert await crons.do(ActivateCrons(3)) == [CronDiff((), (), ("a", "b", "c"))]
        assert await crons.do(ActivateCrons(1)) == [CronDiff((), (), ("a",), ("b", "c"))]
        await refused(crons.do(ActivateCrons(4)), InvalidArgs)
        assert await _states(crons) == {1: "active", 2: "retired", 3: "retired"}
        waits = Staged(4, active=False, diff=CronDiff(added=("c",), deleted=("a",)))
        assert await crons.do(StageCrons([cron("c")], activate=False)) == [waits]
        await crons.do(StageCrons([cron("a")], activate=False))
        assert await _states(crons) == {1: "active", 2: "retired", 3: "retired", 4: "retired"}
        specs = await bench.ask(lambda snapshot: snapshot.manifest_specs(3))
        assert specs == [cron("a"), cron("b"), cron("c")]
        assert [(manifest.version, manifest.crons) for manifest in await _manifests(crons)][:2] == [
            (4, ("c",)), (3, ("a", "b", "c")),
        ]  # fmt: skip


async def a_name_of_a_runtime_cron_can_not_be_defined(make_store: MakeStore) -> None:
    """Nor the other way round; all of the manifest is refused, and nothing has changed."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(PutCron(cron("taken")), StageCrons([cron("defined")], activate=True))
        before = (await crons.info("taken"), await crons.info("defined"), await _manifests(crons), set(crons.index))
        await refused(crons.do(StageCrons([cron("new"), cron("taken", Cron("1 1 * * *"))], activate=True)), InvalidCron)
        refusals: Sequence[CronUnit] = (
            PutCron(cron("defined", Cron("1 1 * * *"))), PutCron(cron("defined")), DeleteCron("defined"),
            ChangeCron("defined", lambda spec: spec),
        )  # fmt: skip
        for unit in refusals:
            await refused(crons.do(unit), InvalidCron)
        after = (await crons.info("taken"), await crons.info("defined"), await _manifests(crons), set(crons.index))
        assert after == before
        await crons.do(PauseCron("defined", ""), ResumeCron("defined"), DeleteCron("taken"))
        (staged,) = await crons.do(StageCrons([cron("defined"), cron("taken")], activate=True))
        assert staged.diff == CronDiff(added=("taken",), unchanged=("defined",))


async def manifests_that_have_retired_are_kept_for_a_while(make_store: MakeStore) -> None:
    """The newest; never the one that holds, however old it is, nor the one that waits."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(StageCrons([cron()], activate=True))
        for at in range(30):
            bench.clock.move_to(START_US + at)
            await crons.do(StageCrons([cron(args=codec.encode({"x": at}))], activate=False))
        states = await _states(crons)
        assert [version for version, state in states.items() if state == "retired"] == list(range(31 - _KEPT, 31))
        assert {version: state for version, state in states.items() if state != "retired"} == {
            1: "active",
            31: "staged",
        }
        await crons.do(StageCrons([cron("x")], activate=True))
        assert max(await _states(crons)) == 32


async def a_paused_cron_stays_paused_when_it_is_defined_anew(make_store: MakeStore) -> None:
    """What was due up to then is recorded as paused; resumed, it counts from the change."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        await crons.do(StageCrons([cron()], activate=True), PauseCron("c", "why"))
        bench.clock.move_to(START_US + 12 * MINUTE)
        await crons.do(StageCrons([cron(schedule=Cron("*/6 * * * *"))], activate=True))
        info = await crons.info()
        assert (info.paused, info.note, info.next_at, crons.index) == (True, "why", None, set())
        bench.clock.move_to(START_US + 13 * MINUTE)
        await crons.do(ResumeCron("c"))
        assert (await crons.history(), await crons.waits_for()) == ([("paused", 5, 10, 2)], 18 * MINUTE)


async def a_disabled_cron_has_no_ticks_until_it_is_enabled(make_store: MakeStore) -> None:
    """Those that would have been are recorded as disabled; an interval goes on from its anchor."""
    async with opened(make_store) as bench:
        crons = CronBench(bench)
        on, off = cron("i", Every(minutes=7)), cron("i", Every(minutes=7), enabled=False)
        await crons.do(StageCrons([on], activate=True))
        await crons.fire(0)
        await crons.run()
        bench.clock.move_to(START_US + 8 * MINUTE)
        await crons.do(StageCrons([off], activate=True))
        assert crons.index == set()
        bench.clock.move_to(START_US + 30 * MINUTE)
        await crons.do(StageCrons([on], activate=True))
        assert await crons.waits_for("i") == 35 * MINUTE
        assert await crons.history("i") == [("success", 0), ("stale_manifest", 7, 7, 1), ("disabled", 14, 28, 3)]


CASES: Final[tuple[Case, ...]] = (
    registering_again_changes_nothing, a_changed_definition_keeps_its_time_where_its_ticks_are_the_same,
    a_change_there_and_back_loses_no_entry, occurrences_that_wait_do_not_start_after_a_change,
    a_run_may_delete_its_own_cron, what_a_mutation_did_to_crons_rolls_back_with_it, an_unknown_cron_is_refused,
    the_same_manifest_changes_nothing, an_activation_syncs_by_name, a_staged_manifest_waits_until_it_is_activated,
    a_name_of_a_runtime_cron_can_not_be_defined, manifests_that_have_retired_are_kept_for_a_while,
    a_paused_cron_stays_paused_when_it_is_defined_anew, a_disabled_cron_has_no_ticks_until_it_is_enabled,
)  # fmt: skip
