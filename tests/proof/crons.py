"""The rules of crons, for a judge that sees a file at its end: every tick up to the account, once, and what it did."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise

from tests.proof.history import TERMINAL, CronBook, CronRow, SkipRow, TickRow
from tests.proof.ticks import at


def broken(book: CronBook) -> Iterator[tuple[str, str, str]]:
    """Yield the rule, the cron and what is wrong, for everything that is."""
    ticks: defaultdict[str, list[TickRow]] = defaultdict(list)
    skips: defaultdict[str, list[SkipRow]] = defaultdict(list)
    for tick in book.ticks:
        ticks[tick.cron].append(tick)
    for skip in book.skips:
        skips[skip.cron].append(skip)
    rows = {row.name: row for row in book.rows}
    for name in ticks.keys() | skips.keys():
        if name not in rows:
            yield "TICKS", name, "is of no cron"
    for row in book.rows:
        yield from _account(row, ticks[row.name], sorted(skips[row.name], key=lambda skip: skip.first_us), book)
        yield from _runs(row, ticks[row.name], book)
        yield from _effects(row, ticks[row.name], book)


def _account(row: CronRow, runs: list[TickRow], skips: list[SkipRow], book: CronBook) -> Iterator[tuple[str, str, str]]:
    ticks, begin_us = row.when.ticks(row.anchor_us), row.created_at_us - bool(row.when.every_us)
    ran = sorted(run.tick_us for run in runs if run.tick_us is not None)
    dropped = sum(skip.ticks for skip in skips)
    number = ticks.count(begin_us, row.watermark_us)
    if number != len(ran) + dropped:
        yield "TICKS", row.name, f"of {number} up to {at(row.watermark_us)} {len(ran)} have a run, {dropped} a record"
    for tick_us in ran:
        if ticks.before(tick_us + 1) != tick_us or not begin_us < tick_us <= row.watermark_us:
            yield "TICKS", row.name, f"{at(tick_us)} is no tick of it up to {at(row.watermark_us)}"
    for skip in skips:
        if skip.ticks != ticks.count(skip.first_us - 1, skip.last_us) or skip.last_us > row.watermark_us:
            yield "TICKS", row.name, f"the record {skip} is not of so many ticks"
        if bisect_left(ran, skip.first_us) != bisect_right(ran, skip.last_us):
            yield "TICKS", row.name, f"{skip}, and some of it ran"
        if skip.reason not in book.reasons:
            yield "TICKS", row.name, f"dropped for {skip.reason}"
    for before, later in pairwise(skips):
        if later.first_us <= before.last_us:
            yield "TICKS", row.name, f"dropped twice: {before}, {later}"
    told = sum(run.skipped for run in runs) + row.skipped
    if told != dropped:
        yield "TICK_UNTOLD", row.name, f"{told} told, {dropped} dropped"
    next_us = ticks.after(row.watermark_us)
    if row.trouble is not None or next_us is None or row.fire_at_us is None:
        yield "CRON_STANDS", row.name, f"does not wait for {at(next_us)}: {row.trouble}"
    elif not 0 <= row.fire_at_us - next_us <= row.jitter_us:
        yield "CRON_STANDS", row.name, f"is to fire {at(row.fire_at_us)} for {at(next_us)}"
    elif book.rested_us is not None and row.fire_at_us < book.rested_us:
        yield "CRON_STANDS", row.name, f"was to fire {at(row.fire_at_us)}, and has not by {at(book.rested_us)}"


def _runs(row: CronRow, runs: list[TickRow], book: CronBook) -> Iterator[tuple[str, str, str]]:
    twice = [tick_us for tick_us, times in Counter(run.tick_us for run in runs).items() if times > 1]
    if twice:
        yield "TICKS", row.name, f"{twice} have more than one run"
    for run in runs:
        if (
            run.tick_us is None
            or run.scheduled_at_us != run.tick_us
            or not (run.occurrence_id or "").startswith(row.name)
        ):
            yield "TICK_RUN", row.name, f"{run}"
        elif run.created_at_us < run.tick_us:
            yield "TICK_EARLY", row.name, f"{run} was made before its tick"
        left = run.state not in TERMINAL and book.rested_us is not None and run.created_at_us < book.rested_us
        if left or run.state == "canceled":
            yield "UNFINISHED", row.name, f"{run}"


def _effects(row: CronRow, runs: list[TickRow], book: CronBook) -> Iterator[tuple[str, str, str]]:
    effects = Counter(trace.job for trace in book.effects)
    starts: defaultdict[str, list[int]] = defaultdict(list)
    by_id = {run.id: run for run in runs}
    for trace in (*book.effects, *book.starts):
        if trace.cron != row.name:
            continue
        known = by_id.get(trace.job)
        if known is None:
            yield "GHOST", row.name, f"{trace}"
        elif (trace.scheduled_at_us, trace.occurrence_id) != (known.scheduled_at_us, known.occurrence_id):
            yield "TICK_RUN", row.name, f"is told {trace}, and the row says {known}"
        elif trace.at_us < known.scheduled_at_us:
            yield "TICK_EARLY", row.name, f"{trace}"
    for trace in book.starts:
        starts[trace.job].append(trace.attempt)
    for run in runs:
        if row.kind == "mutation" and effects[run.id] != (run.state == "success"):
            yield "TICK_EFFECTS", row.name, f"{effects[run.id]} effects of {run}"
        began = starts[run.id]
        if row.kind == "action" and (len(began) > row.attempts or began != sorted(set(began))):
            yield "TICK_EFFECTS", row.name, f"started as {began}: {run}"
        if row.kind == "action" and run.state == "success" and not began:
            yield "TICK_EFFECTS", row.name, f"a success that never started: {run}"
