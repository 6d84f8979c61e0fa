"""Every zone of the IANA database, every change of its offset, every expression: ours against the naive scan.

Zones are taken from the database, and their changes found, by `zoneinfo` alone.  Names of one and the same zone are
compared once.

`python -m tests.crons.dst`: a quarter of an hour of CPU time for 2000 to 2040; exits with 1 on any difference.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, available_timezones

from actor_scheduler.crons.schedule import Cron
from actor_scheduler.crons.wall import line_of
from tests.crons.scan import EXPRESSIONS, changes, differences, walls_of

AROUND = 26 * 60  # minutes before and after a change: the longest jump is a day


def compare(
    tz: str, begin: datetime, end: datetime, expressions: Iterable[str] = EXPRESSIONS, around: int = AROUND
) -> tuple[Counter, list]:
    """Compare around every change of one zone. Return what was counted, and the differences."""
    zone, counted, found = ZoneInfo(tz), Counter(zones=1), []
    for change in changes(zone, begin, end):
        walls = walls_of(zone, change - around - 6 * 60, change + around)
        counted["changes"] += 1
        for expr in expressions:
            counted["comparisons"] += 1
            found += [f"{tz} {expr!r}: {what}" for what in differences(Cron(expr, tz=tz).ticks(0), expr, walls)]
    return counted, found


def zones() -> list[str]:
    return sorted(available_timezones() - {"localtime"})


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--zones", type=int, default=None, help="only this many, spread over all")
    options.add_argument("--from", dest="begin", type=int, default=2000, help="first year")
    options.add_argument("--to", dest="end", type=int, default=2040, help="last year")
    chosen = options.parse_args()
    names = zones()
    if chosen.zones:
        names = names[:: max(len(names) // chosen.zones, 1)][: chosen.zones]
    began = time.perf_counter()
    counted, wrong, lines = Counter(), 0, set()
    for name in names:
        if line_of(ZoneInfo(name)) in lines:  # another name of a zone that was compared
            counted["further names"] += 1
            continue
        lines.add(line_of(ZoneInfo(name)))
        more, found = compare(
            name, datetime(chosen.begin, 1, 1, tzinfo=UTC), datetime(chosen.end + 1, 1, 1, tzinfo=UTC)
        )
        counted += more
        wrong += len(found)
        for line in found[:5]:
            print(line)
    print(", ".join(f"{number:,} {what}" for what, number in counted.items()), f"({len(EXPRESSIONS)} expressions)")
    print(f"{wrong} differences, {time.perf_counter() - began:.0f} s")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
