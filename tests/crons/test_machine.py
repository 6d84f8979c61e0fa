"""A state machine: crons on a harness, registered, changed, paused, resumed, restarted, by clocks that step.

What the public API tells of every cron, its history and its next tick, is at every step what the written rules make of
what was done.  While the app runs and no clock jumps, each tick runs at its own moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actor_scheduler.crons.handle import Crons
from actor_scheduler.times import from_datetime
from runtime import App, Call, FunctionError, MutationCtx, Namespace
from runtime.testing import Harness
from tests.proof.ticks import When
from tests.simulation.cron_plan import job_of, options_of, schedule_of
from tests.simulation.cron_rules import Definition, Piece, Seen, jitter_of, newest_due, piece, verdict

SECOND_US: Final = 1_000_000
HOUR_US: Final = 3_600 * SECOND_US
NIGHT: Final = datetime(2026, 3, 7, 20, tzinfo=UTC)  # America changes its clocks in ten hours
BEHIND_US: Final = 20 * HOUR_US  # a start does not believe a clock that is a day behind

NAMES: Final = st.sampled_from(["a", "b"])
EVERY_NAME: Final = st.sampled_from(["a", "b", "fixed", "apart"])
WHENS: Final = st.sampled_from([
    When(HOUR_US), When(7 * HOUR_US + SECOND_US), When(0, "30 * * * *"), When(0, "0 */6 * * *", "Europe/Paris"),
    When(0, "30 2 * * *", "America/New_York"), When(0, "*/20 1-3 * * *", "America/New_York"),
])  # fmt: skip
SPANS: Final = st.sampled_from([0, 1, 59, 60, 61, 3_600, 5 * 3_600, 26 * 3_600, 3 * 86_400, 9 * 86_400])
CHOICES: Final = st.fixed_dictionaries({}, optional={
    "missed": st.sampled_from(["latest", "all", "skip"]),
    "max_ticks": st.sampled_from([1, 3, 100]),
    "max_age_us": st.sampled_from([None, HOUR_US, 48 * HOUR_US]),
    "overlap": st.sampled_from(["skip", "queue", "allow"]),
    "jitter_us": st.sampled_from([0, 90 * SECOND_US]),
    "enabled": st.booleans(),
    "n": st.integers(0, 2),
})  # fmt: skip
FIXED: Final = (
    Definition("fixed", When(0, "0 */6 * * *", "Europe/Paris"), "work:tick", "mutation", missed="all", max_ticks=5),
    Definition("apart", When(11 * HOUR_US), "work:tick", "mutation", missed="skip"),
)

HOW: Final = st.sampled_from(["app", "app", "mutation", "rolled back"])

Wish = Callable[[Crons], Any]


class Ran(NamedTuple):
    """A run: its tick, when it started, and how many dropped ticks it was told of."""

    tick_us: int
    at_us: int
    skipped: int


@dataclass
class Account:
    """What should be on record of one cron's name. It outlives its deletion."""

    row: Seen | None = None
    ran: dict[int, Ran] = field(default_factory=dict)
    dropped: list[Piece] = field(default_factory=list)
    by_hand: int = 0

    def drop(self, pieces: tuple[Piece, ...], upto_us: int) -> None:
        """Record what does not run; a stretch that follows one with the same reason is one with it."""
        for one in pieces:
            last = max(self.dropped, key=lambda other: other.last_us, default=None)
            if last is not None and (last.reason, last.last_us) == (one.reason, upto_us):
                at = self.dropped.index(last)
                self.dropped[at] = last._replace(last_us=one.last_us, ticks=last.ticks + one.ticks)
            else:
                self.dropped.append(one)
            upto_us = one.last_us

    def settle(self, now_us: int, *, resumed: bool = False) -> None:
        """Bring to account what is due, all of it now: the app was down, or the clock jumped."""
        row = self.row
        if row is None or not row.fires:
            return
        due = newest_due(row, now_us)
        if due is None or due[0] <= row.watermark_us:
            return
        what = verdict(row, *due, 0, paused=resumed)
        self.drop(what.pieces, row.watermark_us)
        told = row.skipped + sum(one.ticks for one in what.pieces)
        for tick_us in what.runs:
            self.ran.setdefault(tick_us, Ran(tick_us, now_us, told))
            told = 0
        self.row = row._replace(watermark_us=due[0], skipped=what.skipped)

    def pass_time(self, now_us: int) -> None:
        """Run each tick at its own moment."""
        while (row := self.row) is not None and row.fires:
            tick_us = row.ticks.after(row.watermark_us)
            if tick_us is None or (at_us := tick_us + jitter_of(row.definition, tick_us, row.ticks)) > now_us:
                return
            self.ran.setdefault(tick_us, Ran(tick_us, at_us, row.skipped))
            self.row = row._replace(watermark_us=tick_us, skipped=0)

    def end(self, now_us: int) -> None:
        """A definition ends now, and with it what was due."""
        row = self.row
        assert row is not None
        reason = "disabled" if not row.definition.enabled else "paused" if row.paused else "stale_manifest"
        self.drop(piece(row.ticks, reason, row.watermark_us, now_us), row.watermark_us)

    def put(self, told: Definition, now_us: int, *, anew: bool = False) -> None:
        """Let this be the definition."""
        row = self.row
        if row is None:
            upto_us = now_us - 1 if told.when.every_us else now_us
            self.row = Seen(0, "runtime", told, now_us, upto_us, 0, False, None, None, None)
        elif anew or row.definition.ticks_alike != told.ticks_alike:
            self.end(now_us)
            same = row.definition.when == told.when and not anew
            anchor_us = row.anchor_us if same else now_us
            self.row = row._replace(definition=told, anchor_us=anchor_us, watermark_us=now_us)
        else:
            self.row = row._replace(definition=told)


def make_app() -> App[Any]:
    work = Namespace("work")

    @work.mutation
    async def tick(ctx: MutationCtx, *, n: int) -> int:
        return n

    app = App("unused.db", namespaces=[work])
    app.crons.define_crons(map(job_of, FIXED))
    return app


class CronMachine(RuleBasedStateMachine):
    """Every tick of every cron is accounted for as the rules say, and nothing else is on record."""

    @initialize(drawn=st.tuples(*[st.tuples(WHENS, CHOICES)] * 2))
    def start(self, drawn: tuple[tuple[When, dict[str, Any]], ...]) -> None:
        self.loop = asyncio.new_event_loop()
        app = make_app()
        self.wishes: list[Wish] = []

        async def many(ctx: MutationCtx, *, fails: bool) -> None:
            for wish in self.wishes:
                await wish(ctx.crons)
            if fails:
                raise FunctionError("NO", "as asked")

        app.namespace("desk").mutation(many)
        self.harness = Harness(app, start=NIGHT)
        self.loop.run_until_complete(self.harness.__aenter__())
        self.highest_us = self.now_us
        self.accounts: dict[str, Account] = {}
        for told in FIXED:
            self.account(told.name).put(told, self.now_us)
            self.account(told.name).pass_time(self.now_us)
        for name, (when, chosen) in zip("ab", drawn, strict=True):
            self.register(name, when, chosen, "app")

    @property
    def now_us(self) -> int:
        return self.harness.clock.now_us()

    def run(self, work: Any) -> Any:
        async def settled() -> Any:
            result = await work
            await self.harness.settle()
            return result

        return self.loop.run_until_complete(settled())

    def account(self, name: str) -> Account:
        return self.accounts.setdefault(name, Account())

    def ask(self, wish: Wish, name: str, change: Callable[[Account], object], *, how: str) -> None:
        """Ask for something, as the app or in a mutation, which may fail after it."""
        if how != "app":
            self.wishes = [wish]
            try:
                self.run(self.harness.call("desk:many", {"fails": how == "rolled back"}))
            except FunctionError:
                assert how == "rolled back"
                return
        else:
            self.run(wish(self.harness.crons))
        account = self.account(name)
        change(account)
        account.pass_time(self.now_us)

    # ------------------------------------------------------------ rules

    @rule(name=NAMES, when=WHENS, chosen=CHOICES, how=HOW)
    def register_another(self, name: str, when: When, chosen: dict[str, Any], how: str) -> None:
        self.register(name, when, chosen, how)

    def register(self, name: str, when: When, chosen: dict[str, Any], how: str) -> None:
        told = Definition(name, when, "work:tick", "mutation")._replace(**chosen)

        def wish(crons: Crons) -> Any:
            return crons.register(name, schedule_of(told), told.path, {"n": told.n}, **options_of(told))

        self.ask(wish, name, lambda one: one.put(told, self.now_us), how=how)

    @rule(name=NAMES, how=HOW)
    def register_again(self, name: str, how: str) -> None:
        if (row := self.account(name).row) is not None:
            told = row.definition

            def wish(crons: Crons) -> Any:
                return crons.register(name, schedule_of(told), told.path, {"n": told.n}, **options_of(told))

            self.ask(wish, name, lambda _: None, how=how)

    @rule(name=NAMES, when=st.none() | WHENS, chosen=CHOICES, how=HOW)
    def update(self, name: str, when: When | None, chosen: dict[str, Any], how: str) -> None:
        row = self.account(name).row
        if row is not None:
            told = row.definition._replace(when=when or row.definition.when, **chosen)
            target, schedule = Call(told.path, {"n": told.n}), schedule_of(told) if when else None

            def wish(crons: Crons) -> Any:
                return crons.update(name, schedule=schedule, target=target, **options_of(told))

            change = lambda one: one.put(told, self.now_us, anew=when is not None)  # noqa: E731
            self.ask(wish, name, change, how=how)

    @rule(name=NAMES, how=HOW)
    def delete(self, name: str, how: str) -> None:
        def change(one: Account) -> None:
            if one.row is not None:
                one.end(self.now_us)
                one.row = None

        self.ask(lambda crons: crons.delete(name), name, change, how=how)

    @rule(name=EVERY_NAME, how=HOW)
    def pause(self, name: str, how: str) -> None:
        def change(one: Account) -> None:
            assert one.row is not None
            one.row = one.row._replace(paused=True)

        if self.account(name).row is not None:
            self.ask(lambda crons: crons.pause(name), name, change, how=how)

    @rule(name=EVERY_NAME, how=HOW)
    def resume(self, name: str, how: str) -> None:
        def change(one: Account) -> None:
            row, now_us = one.row, self.now_us
            if row is None or not (row.paused or row.watermark_us > now_us):
                return
            if row.watermark_us > now_us:  # the clock was set back: it counts from now
                row = row._replace(watermark_us=now_us, anchor_us=min(row.anchor_us, now_us))
            one.row = row._replace(paused=False)
            one.settle(now_us, resumed=True)

        if self.account(name).row is not None:
            self.ask(lambda crons: crons.resume(name), name, change, how=how)

    @rule(name=EVERY_NAME)
    def run_by_hand(self, name: str) -> None:
        def change(one: Account) -> None:
            one.by_hand += 1

        if self.account(name).row is not None:
            self.ask(lambda crons: crons.run_now(name), name, change, how="app")

    @rule(seconds=SPANS)
    def advance(self, seconds: int) -> None:
        self.run(self.harness.advance(seconds))
        for account in self.accounts.values():
            account.pass_time(self.now_us)

    @rule(seconds=SPANS, kill=st.booleans())
    def restart(self, seconds: int, kill: bool) -> None:
        self.run(self.harness.restart(down_for=seconds, kill=kill))
        self.jumped()

    @rule(seconds=SPANS)
    def step_forward(self, seconds: int) -> None:
        self.harness.clock.step(seconds * SECOND_US)
        self.run(self.harness.settle())
        self.jumped()

    @precondition(lambda self: self.highest_us - self.now_us < BEHIND_US // 2)
    @rule(seconds=st.sampled_from([1, 61, 3_600, 9 * 3_600]))
    def step_back(self, seconds: int) -> None:
        self.highest_us = max(self.highest_us, self.now_us)
        self.harness.clock.step(-seconds * SECOND_US)
        self.run(self.harness.settle())

    def jumped(self) -> None:
        for account in self.accounts.values():
            account.settle(self.now_us)

    # ------------------------------------------------------------ what must hold at every step

    @invariant()
    def the_record_is_as_the_rules_say(self) -> None:
        if not hasattr(self, "accounts"):
            return
        self.highest_us = max(self.highest_us, self.now_us)
        for name, account in self.accounts.items():
            self.loop.run_until_complete(self.check(name, account))

    async def check(self, name: str, account: Account) -> None:
        """Compare what the API tells with what is expected."""
        crons = self.harness.crons
        told = await crons.runs(name, limit=1_000)
        runs = [
            Ran(*map(from_datetime, (run.tick, run.started_at)), run.skipped)
            for run in told
            if run.started_at and not run.manual
        ]
        skips = [
            Piece(run.reason or "", from_datetime(run.first_tick), from_datetime(run.tick), run.skipped)
            for run in told
            if run.state == "skipped"
        ]
        if len(told) < 1_000:
            assert sorted(runs) == sorted(account.ran.values())
            assert sorted(skips) == sorted(account.dropped)
            assert sum(run.manual for run in told) == account.by_hand
        assert all(run.state in ("success", "skipped") for run in told)
        row, info = account.row, await crons.get(name)
        assert (info is None) == (row is None)
        if row is not None and info is not None:
            next_us = row.ticks.after(row.watermark_us) if row.fires else None
            assert info.paused == row.paused
            assert (from_datetime(info.next_at) if info.next_at else None) == next_us
            if next_us is not None:
                coming = [from_datetime(tick) for tick in await crons.next_ticks(name, 3)]
                assert coming == [next_us, *_after(row, next_us, 2)]

    def teardown(self) -> None:
        if hasattr(self, "harness"):
            self.loop.run_until_complete(self.harness.__aexit__(None, None, None))
            self.loop.close()


def _after(row: Seen, at_us: int, number: int) -> list[int]:
    found: list[int] = []
    while len(found) < number:
        at_us = row.ticks.after(at_us) or 0
        found.append(at_us)
    return found


CronMachine.TestCase.settings = settings(
    max_examples=25,
    stateful_step_count=20,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
)
TestCrons = CronMachine.TestCase
