"""Manifests in the file: damaged ones, those beyond reason, and what a start makes of them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from actor_scheduler import codec
from actor_scheduler.crons.records import CronDiff, Staged
from actor_scheduler.crons.schedule import Cron, Every
from actor_scheduler.crons.spec import CronSpec
from actor_scheduler.errors import InvalidArgs, InvalidCron, LimitExceeded
from actor_scheduler.model import CRONS
from actor_scheduler.store.base import RunDue
from actor_scheduler.store.cron_units import ActivateCrons, PauseCron, PutCron, ResumeCron, StageCrons
from actor_scheduler.testing.bench import refused
from actor_scheduler.testing.clock import START_US
from actor_scheduler.testing.cron_bench import MINUTE, CronBench, cron
from tests.maintenance.files import run


def overwrite(db: Path, version: int, definitions: bytes) -> None:
    """Damage a manifest."""
    with closing(sqlite3.connect(db)) as file, file:
        file.execute("UPDATE _scheduler_manifests SET definitions = ? WHERE version = ?", (definitions, version))


async def versions(crons: CronBench) -> dict[int, tuple[str, tuple[str, ...]]]:
    """Return every manifest's state and names."""
    found = await crons.bench.ask(lambda snapshot: snapshot.manifests(100))
    return {each.version: (each.state, each.crons) for each in found}


DAMAGE = {
    "empty": b"", "text": b"x", "no list": codec.encode(7), "no pairs": codec.encode(["a"]),
    "triples": codec.encode([["a", b"x", 1]]), "other types": codec.encode([[1, "x"]]), "a map": codec.encode({"a": b"x"}),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
async def test_R11_a_damaged_manifest_is_in_nobody_s_way(what: str, open_bench: Any, db: Path) -> None:
    """It can't be activated, the others can be listed and activated, and a start goes on from it."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        for names in ("a", "ab", "abc"):
            await crons.do(StageCrons([cron(name) for name in names], activate=True))
        overwrite(db, 1, DAMAGE[what])
        overwrite(db, 3, DAMAGE[what])
        await crons.restart()
        assert await versions(crons) == {1: ("retired", ()), 2: ("retired", ("a", "b")), 3: ("active", ())}
        await refused(crons.do(ActivateCrons(1)), InvalidCron)
        with pytest.raises(InvalidCron):
            await bench.ask(lambda snapshot: snapshot.manifest_specs(1))
        (staged,) = await crons.do(StageCrons([cron(name) for name in "abc"], activate=True))
        assert (staged.version, staged.diff) == (3, CronDiff(unchanged=("a", "b", "c")))
        assert await crons.do(ActivateCrons(2)) == [CronDiff((), (), ("a", "b"), ("c",))]


async def test_a_definition_that_can_t_be_read_makes_its_manifest_wait(open_bench: Any, db: Path) -> None:
    """One of another release among them: nothing of it is activated, and nothing has changed."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(StageCrons([cron("a")], activate=True), StageCrons([cron("b"), cron("c")], activate=False))
        overwrite(db, 2, codec.encode([["b", cron("b").encode()], ["c", b"\x07later"]]))
        before = set(crons.index)
        await refused(crons.do(ActivateCrons(2)), InvalidCron)
        assert (await versions(crons), crons.index) == ({1: ("active", ("a",)), 2: ("staged", ("b", "c"))}, before)


async def test_a_start_with_definitions_that_were_damaged_goes_by_those_of_the_code(open_bench: Any, db: Path) -> None:
    """The code says what they are: what was kept of them may be gone."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        for names in ("a", "ab"):
            await crons.do(StageCrons([cron(name) for name in names], activate=True))
        overwrite(db, 1, b"x")
        waits = Staged(1, active=False, diff=CronDiff((), (), ("a",), ("b",)))
        assert await crons.do(StageCrons([cron("a")], activate=False)) == [waits]
        assert await crons.do(StageCrons([cron("a")], activate=True)) == [waits._replace(active=True)]


async def test_what_waits_says_what_its_activation_would_change(open_bench: Any) -> None:
    """Nothing is applied: rows, index and history are as they were, until it is activated with that very outcome."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        (first,) = await crons.do(StageCrons([cron("a")], activate=False))
        assert first == Staged(1, active=False, diff=CronDiff(added=("a",)))
        assert crons.index == set()
        await crons.do(StageCrons([cron(name) for name in "abc"], activate=True), PutCron(cron("runtime")))
        before = [await crons.info(name) for name in "abc"], set(crons.index), await crons.history("b")
        wanted = [cron("d"), cron("b", Cron("7 * * * *")), cron("a")]
        (staged,) = await crons.do(StageCrons(wanted, activate=False))
        assert staged == Staged(3, active=False, diff=CronDiff(("d",), ("b",), ("a",), ("c",)))
        assert ([await crons.info(name) for name in "abc"], set(crons.index), await crons.history("b")) == before
        assert await crons.do(StageCrons(wanted, activate=False)) == [staged]
        assert await crons.do(ActivateCrons(3)) == [staged.diff]


@pytest.mark.parametrize("activate", [True, False])
async def test_a_taken_name_is_refused_when_it_is_staged(activate: bool, open_bench: Any) -> None:
    """Also where the manifest would only wait; the remedy is said, and nothing is kept."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(StageCrons([cron("a")], activate=True), PutCron(cron("taken")), PutCron(cron("free")))
        told = r"'taken': rename .* delete the registered cron \(`crons.delete\(name\)`\) with the release before"
        with pytest.raises(InvalidCron, match=told):
            await crons.do(StageCrons([cron("a"), cron("taken")], activate=activate))
        assert await versions(crons) == {1: ("active", ("a",))}
        await crons.do(StageCrons([cron("late")], activate=False), PutCron(cron("late")))
        await refused(crons.do(ActivateCrons(2)), InvalidCron)
        assert await versions(crons) == {1: ("active", ("a",)), 2: ("staged", ("late",))}


async def test_two_manifests_that_hold_become_one(open_bench: Any, db: Path) -> None:
    """A file that somebody has changed: the next start settles it."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        for names in ("a", "ab", "abc"):
            await crons.do(StageCrons([cron(name) for name in names], activate=True))
        run(db, "UPDATE _scheduler_manifests SET state = 'active'")
        await crons.restart()
        await crons.do(StageCrons([cron(name) for name in "abc"], activate=True))
        assert {version: state for version, (state, _) in (await versions(crons)).items()} == {
            1: "retired", 2: "retired", 3: "active",
        }  # fmt: skip


@pytest.mark.parametrize("activate", [True, False])
async def test_a_start_mends_what_the_same_code_defines(activate: bool, open_bench: Any, db: Path) -> None:
    """A cron in trouble goes on with the definition of the code, though the manifest is the same; the others stay."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        specs = [cron(name) for name in "abc"]
        await crons.do(StageCrons(specs, activate=True), PutCron(cron("runtime")), PauseCron("c", "why"))
        run(db, "UPDATE _scheduler_crons SET spec = x'00' WHERE name IN ('a', 'runtime')")
        bench.clock.move_to(START_US + 7 * MINUTE)
        await crons.do(*[RunDue(CRONS, entry) for entry in sorted(crons.index)])
        assert [(await crons.info(name)).trouble is None for name in ("a", "b", "runtime")] == [False, True, False]
        before = await crons.info("b")
        (staged,) = await crons.do(StageCrons(specs, activate=activate))
        assert (staged.version, staged.active, staged.diff) == (1, True, CronDiff((), ("a",), ("b", "c"), ()))
        assert ((await crons.info("a")).trouble, await crons.waits_for("a")) == (None, 10 * MINUTE)
        assert (await crons.info("b"), (await crons.info("runtime")).trouble is None) == (before, False)
        (again,) = await crons.do(StageCrons(specs, activate=activate))
        assert again.diff == CronDiff(unchanged=("a", "b", "c"))


async def test_more_than_a_manifest_can_hold_is_refused(open_bench: Any) -> None:
    """Nothing of it is kept; the one that holds goes on."""
    async with open_bench() as bench:
        crons = CronBench(bench)
        await crons.do(StageCrons([cron("a")], activate=True))
        many = [cron(f"{at:05}") for at in range(40_000)]
        await refused(crons.do(StageCrons(many, activate=True)), LimitExceeded)
        await refused(crons.do(StageCrons(many, activate=False)), LimitExceeded)
        assert await versions(crons) == {1: ("active", ("a",))}
        await refused(crons.do(ActivateCrons(1 << 62)), InvalidArgs)


def diff(before: dict[str, CronSpec], after: dict[str, CronSpec]) -> CronDiff:
    """Return what leads from one set of definitions to another, by name."""
    both = before.keys() & after.keys()
    same = {name for name in both if before[name] == after[name]}
    parts = (after.keys() - before.keys(), both - same, same, before.keys() - after.keys())
    return CronDiff(*(tuple(sorted(part)) for part in parts))


names = st.sampled_from("abcde")
schedules = st.sampled_from([Cron("*/5 * * * *"), Cron("7 * * * *"), Every(minutes=3), Every(minutes=10)])
specs = st.dictionaries(names, st.tuples(schedules, st.booleans(), st.sampled_from("mn")), max_size=5)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("stage"), specs, st.booleans()),
        st.tuples(st.just("activate"), st.integers(1, 6), st.none()),
        st.tuples(st.just("restart"), st.none(), st.none()),
        st.tuples(st.just("fire"), st.integers(0, 40), st.none()),
        st.tuples(st.just("pause"), names, st.booleans()),
    ),
    max_size=14,
)


@given(steps=steps)
@settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
async def test_what_holds_is_what_was_activated_last(
    steps: list[Any], tmp_path_factory: pytest.TempPathFactory, open_bench: Any
) -> None:
    """After any steps: exactly the crons of the active manifest, as they are defined there, and that of a user's."""
    async with open_bench(path=tmp_path_factory.mktemp("manifests") / "app.db") as bench:
        crons = CronBench(bench)
        bench.host.bodies["n"] = bench.host.bodies["m"]
        runtime = cron("runtime", Cron("0 * * * *"))
        await crons.do(PutCron(runtime))
        staged: dict[int, dict[str, CronSpec]] = {0: {}}
        active, minutes = 0, 0
        for what, given_, more in steps:
            if what == "stage":
                wanted = {
                    name: cron(name, schedule, path, enabled=enabled)
                    for name, (schedule, enabled, path) in given_.items()
                }
                held = staged[active]
                (answer,) = await crons.do(StageCrons(list(wanted.values()), activate=more))
                assert answer.diff == diff(held, wanted)
                staged[answer.version] = wanted
                active = answer.version if answer.active else active
                assert answer.active == (more or staged[active] == wanted)
            elif what == "activate":
                if given_ in staged:
                    (changed,) = await crons.do(ActivateCrons(given_))
                    assert changed == diff(staged[active], staged[given_])
                    active = given_
                else:
                    await refused(crons.do(ActivateCrons(given_)), InvalidArgs)
            elif what == "restart":
                await crons.restart()
            elif what == "fire":
                minutes += given_
                await crons.fire(minutes * MINUTE)
                await crons.run()
            elif given_ in staged[active]:
                await crons.do(PauseCron(given_, "") if more else ResumeCron(given_))
            listed = (await bench.ask(lambda snapshot: snapshot.list_crons("", None, 100))).items
            assert {info.name: info.spec for info in listed} == {**staged[active], "runtime": runtime}
            states = [state for state, _ in (await versions(crons)).values()]
            assert states.count("active") == (active > 0)
            assert states.count("staged") <= 1
