"""The crash test's judge of crons: every tick is accounted for, once, and no cron is lost, or there unasked.

The record of a cron's row says up to where it was accounted for, and by which definition; which ticks these were is
worked out here.  Whatever the moment, they must be the runs and the skips that the file holds.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from tests.crash import crons
from tests.crash.cron_history import AT, CronRun, CronsLeft, CronState, Skip
from tests.crash.history import TERMINAL
from tests.crash.rules import Rule, Violation
from tests.crash.view import View


@dataclass(slots=True)
class _Cron:
    """One name, over all the definitions it had."""

    name: str
    ticks: list[int] = field(default_factory=list)  # all that must be accounted for
    holds: CronState | None = None  # the definition that counts, and its anchor
    now: CronState | None = None  # None: it is gone
    back: list[str] = field(default_factory=list)

    def take(self, state: CronState, skips: Iterable[Skip]) -> None:
        before = self.now
        if state.change == "delete" or before is None or self.holds is None:
            if self.holds is not None and state.change == "delete":
                self._close(self.holds, state.watermark_us, skips)
            self.now = self.holds = state if state.change == "insert" else None
            return
        if state.watermark_us < before.watermark_us:
            self.back.append(f"{before.watermark_us}, then {state.watermark_us}")
        self.now = state
        if state.ticking == before.ticking:  # else its new account follows, and closes what the old definition had
            held = self.holds
            self.ticks += held.ticking.ticks(held.anchor_us, before.watermark_us, state.watermark_us)
            self.holds = state

    def _close(self, held: CronState, watermark_us: int, skips: Iterable[Skip]) -> None:
        """Take in the ticks that were recorded when it was deleted: those that follow its watermark."""
        if not held.ticking.external:
            next_us = held.ticking.next_us(held.anchor_us, watermark_us)
            for skip in skips:
                if skip.first_us <= next_us <= skip.last_us:
                    self.ticks += held.ticking.ticks(held.anchor_us, watermark_us, skip.last_us)


def broken_crons(view: View) -> Iterator[Violation]:
    """Yield every promise about crons that is broken."""
    left = view.history.crons
    skips, runs = defaultdict[str, list[Skip]](list), defaultdict[str, list[CronRun]](list)
    for skip in left.skips:
        skips[skip.cron].append(skip)
    for run in left.runs:
        runs[run.cron].append(run)
    known: dict[str, _Cron] = {}
    for state in left.log:
        known.setdefault(state.name, _Cron(state.name)).take(state, skips[state.name])
    for name in {*known, *runs, *skips}:
        yield from _accounted(known.get(name) or _Cron(name), runs[name], skips[name])
    for cron in known.values():
        yield from (Violation(Rule.WATERMARK, cron.name, back) for back in cron.back)
        yield from _goes_on(view, cron)
    yield from _ran(left)
    yield from _in_turn(left)
    yield from _registered(view, known)
    yield from _deleted(view, known)
    yield from _defined(view, known)
    yield from _settings(view, known)
    yield from _by_hand(view, runs)


# ------------------------------------------------------------------ ticks


def _accounted(cron: _Cron, runs: Sequence[CronRun], skips: Sequence[Skip]) -> Iterator[Violation]:
    """Each tick is a run, or stands in a stretch of skipped ones; and not both, nor twice."""
    place = {tick_us: at for at, tick_us in enumerate(cron.ticks)}
    times = [0] * len(cron.ticks)
    for run in runs:
        if run.tick_us is not None and run.tick_us not in place:
            yield Violation(Rule.GHOST, cron.name, f"a run of {run.tick_us}, which is no tick up to the watermark")
        elif run.tick_us is not None:
            times[place[run.tick_us]] += 1
    for skip in skips:
        first, last = place.get(skip.first_us), place.get(skip.last_us)
        if first is None or last is None:
            yield Violation(Rule.GHOST, cron.name, f"{skip} is not of its ticks")
            continue
        if last - first + 1 != skip.ticks:
            yield Violation(Rule.TICK_COUNT, cron.name, f"{skip}, where there are {last - first + 1}")
        for at in range(first, last + 1):
            times[at] += 1
    lost = [tick_us for tick_us, count in zip(cron.ticks, times, strict=True) if count == 0]
    twice = [tick_us for tick_us, count in zip(cron.ticks, times, strict=True) if count > 1]
    if lost:
        yield Violation(Rule.TICK_LOST, cron.name, f"{len(lost)} of {len(times)}: {lost[:3]}")
    if twice:
        yield Violation(Rule.TICK_TWICE, cron.name, f"{len(twice)} of {len(times)}: {twice[:3]}")


def _ran(left: CronsLeft) -> Iterator[Violation]:
    """A mutation of a tick took effect exactly if it succeeded, and once; an action started once at most."""
    by_id = {run.id: run for run in left.runs}
    effects, starts = Counter(trace.job for trace in left.effects), Counter(trace.job for trace in left.starts)
    for trace in (*left.effects, *left.starts):
        run = by_id.get(trace.job or "")
        if run is None or (run.tick_us is not None and trace.op != f"{run.cron}{AT}{run.tick_us}"):
            yield Violation(Rule.GHOST, trace.op, f"{trace.job} is {'no run' if run is None else run.tick_us}")
    for op, count in Counter(trace.op for trace in left.effects).items():
        if count > 1 and not op.endswith(AT):
            yield Violation(Rule.DOUBLED, op, f"{count} effects")
    for run in left.runs:
        op = f"{run.cron}{AT}{run.tick_us}"
        if run.state not in TERMINAL:
            yield Violation(Rule.UNFINISHED, op, run.state)
        if run.kind == "mutation" and effects[run.id] <= 1 and effects[run.id] != (run.state == "success"):
            yield Violation(Rule.SPLIT, op, f"{run.state}, {effects[run.id]} effects")
        if run.kind == "action" and starts[run.id] > 1:
            yield Violation(Rule.STARTED_TWICE, op, f"{starts[run.id]} starts")
        if run.kind == "action" and run.state == "success" and not starts[run.id]:
            yield Violation(Rule.NOT_STARTED, op)
        if run.state == "canceled" and (run.cause not in ("stale_manifest", "paused", "disabled") or starts[run.id]):
            yield Violation(Rule.CANCELED_BY_NOBODY, op, f"{run.cause}, {starts[run.id]} starts")
        if run.state == "failed" and run.cause not in ("interrupted", "crash_loop"):
            yield Violation(Rule.UNPLANNED, op, f"{run.state} {run.cause}")


def _in_turn(left: CronsLeft) -> Iterator[Violation]:
    """Of runs that take turns, none begins before the one before it has ended."""
    began = {trace.job: trace.at_us for trace in (*left.effects, *left.starts)}
    lanes = defaultdict[str, list[CronRun]](list)
    for run in left.runs:
        if run.lane is not None and run.id in began:
            lanes[run.lane].append(run)
    for lane, ran in lanes.items():
        for before, after in pairwise(sorted(ran, key=lambda run: began[run.id])):
            if before.state not in TERMINAL or before.completed_at_us > began[after.id]:
                yield Violation(Rule.LANE, lane, f"{after.tick_us} began before {before.tick_us} had ended")


# ------------------------------------------------------------------ crons


def _goes_on(view: View, cron: _Cron) -> Iterator[Violation]:
    now, held = cron.now, cron.holds
    if now is None or held is None:
        return
    if now.trouble is not None:
        yield Violation(Rule.CRON_STOPPED, cron.name, now.trouble)
    if not now.ticking.enabled or now.ticking.external or (now.paused and now.note != crons.FINISH):
        return
    if now.fire_at_us is None and not now.paused:
        yield Violation(Rule.CRON_STOPPED, cron.name, "it waits for no tick")
    if view.history.caught_up_us is not None:
        missed = held.ticking.ticks(held.anchor_us, now.watermark_us, view.history.caught_up_us)
        if missed:
            yield Violation(Rule.CRON_STOPPED, cron.name, f"{len(missed)} ticks since {now.watermark_us}")


def _registered(view: View, known: dict[str, _Cron]) -> Iterator[Violation]:
    """What was acknowledged is there; what was refused or rolled back was never there."""
    asked = set[str]()
    for op, ask in view.asks.items():
        if ask.do == "register" and ask.cron is not None:
            asked.add(ask.cron)
            if view.history.acks(op) and ask.cron not in known:
                yield Violation(Rule.CRON_LOST, ask.cron, "its registration was acknowledged")
            if view.history.definitely_refused(op) and ask.cron in known:
                yield Violation(Rule.REFUSED_EXISTS, ask.cron, f"{view.history.answers[op]}")
    for body in view.bodies.values():
        if body.registers is not None:
            asked.add(body.registers)
            done = view.stands(body)
            if done is True and body.registers not in known:
                yield Violation(Rule.CHILD_MISSING, body.registers, f"of {body.op}")
            if done is False and body.registers in known:
                yield Violation(Rule.ROLLED_BACK, body.registers, f"of {body.op}")
    defined = {defined.name for version in (*range(crons.VERSIONS), crons.SLOW) for defined in crons.manifest(version)}
    yield from (Violation(Rule.CRON_GHOST, name) for name in known.keys() - asked - defined)


def _deleted(view: View, known: dict[str, _Cron]) -> Iterator[Violation]:
    """A cron that was registered goes when it is told to, and not before."""
    ran = Counter(trace.op.split(AT)[0] for trace in view.history.crons.effects)
    asked, acked = set[str](), set[str]()
    for op, ask in view.asks.items():
        if ask.do == "unregister" and ask.cron is not None and not view.history.definitely_refused(op):
            asked.add(ask.cron)
            if view.history.acks(op):
                acked.add(ask.cron)
    for name, cron in known.items():
        once = name.endswith(crons.ONCE)
        if once and ran[name] > 1:
            yield Violation(Rule.DOUBLED, name, f"it ran {ran[name]} times, and deletes itself")
        if cron.now is not None and (name in acked or (once and ran[name])):
            yield Violation(Rule.CRON_GHOST, name, "was deleted")
        if cron.now is None and name.endswith((crons.ONCE, crons.GONE, crons.KEPT)):
            if name not in asked and not (once and ran[name]):
                yield Violation(Rule.CRON_LOST, name, "and nobody deleted it")


def _defined(view: View, known: dict[str, _Cron]) -> Iterator[Violation]:
    """The crons of the code are those that the app last started with."""
    if view.history.manifest is None or view.history.caught_up_us is None:
        return
    wanted = {defined.name: defined for defined in crons.manifest(view.history.manifest)}
    of_code = {defined.name for version in (*range(crons.VERSIONS), crons.SLOW) for defined in crons.manifest(version)}
    there = {name: cron.now for name, cron in known.items() if cron.now is not None and name in of_code}
    yield from (Violation(Rule.CRON_LOST, name, "the code defines it") for name in wanted.keys() - there.keys())
    yield from (Violation(Rule.CRON_GHOST, name, "of an older manifest") for name in there.keys() - wanted.keys())
    for name in wanted.keys() & there.keys():
        ticking, defined = there[name].ticking, wanted[name]
        when = {"every_us": ticking.every_us} if ticking.every_us else {"cron": ticking.expr, "tz": ticking.tz}
        if (when, ticking.path) != (defined.plain, defined.target):
            yield Violation(Rule.CRON_LOST, name, f"it is {ticking}")


def _settings(view: View, known: dict[str, _Cron]) -> Iterator[Violation]:
    """What was last acknowledged holds, or what came after it or beside it: paused or not, and the interval."""
    sent = defaultdict[tuple[str, str], list[tuple[object, int, int | None]]](list)
    for op, all_sent in view.history.asks.items():
        ask, at_us = all_sent[0]
        if ask.cron is not None and ask.do in ("pause", "resume"):
            sent[ask.cron, "paused"].append((ask.do == "pause", at_us, view.answered_us(op)))
        if ask.cron is not None and ask.do == "reschedule":
            sent[ask.cron, "every"].append((ask.value, at_us, view.answered_us(op)))
    for (name, what), values in sent.items():
        now = known[name].now if name in known else None
        last_us = max((at_us for _, at_us, answered_us in values if answered_us is not None), default=None)
        if last_us is None or now is None:
            continue
        possible = {value for value, _, answered_us in values if answered_us is None or answered_us >= last_us}
        value = now.ticking.every_us if what == "every" else now.paused and now.note != crons.FINISH
        if value not in possible:
            yield Violation(Rule.SETTING, name, f"{what} is {value}, not one of {possible}")


def _by_hand(view: View, runs: dict[str, list[CronRun]]) -> Iterator[Violation]:
    """A run by hand that was acknowledged is there, and none that nobody asked for; so is a tick from outside."""
    asked = Counter[str]()
    for op, ask in view.asks.items():
        if ask.cron is None or ask.do not in ("run_cron", "dispatch"):
            continue
        there = {run.id for run in runs[ask.cron] if (run.tick_us is None) == (ask.do == "run_cron")}
        for ack in view.history.acks(op):
            job_id = ack if ask.do == "run_cron" else ack[1]
            if job_id is not None and job_id not in there:
                yield Violation(Rule.LOST, ask.cron, f"{ask.do}: {ack}")
        if ask.do == "run_cron" and not view.history.definitely_refused(op):
            asked[ask.cron] += len(view.history.asks[op])
    for name, of_name in runs.items():
        count = sum(run.tick_us is None for run in of_name)
        if count > asked[name]:
            yield Violation(Rule.GHOST, name, f"{count} runs by hand, {asked[name]} asked for")
