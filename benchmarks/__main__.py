"""All benchmarks, one table: `python -m benchmarks`, about four minutes; `--quick` shows that they work."""

from __future__ import annotations

from benchmarks import backlog, cron_next, crons, due, idle, lateness, live, schedule
from benchmarks.measure import run

if __name__ == "__main__":
    run(__doc__ or "", [one.measure for one in (schedule, live, due, lateness, idle, backlog, crons, cron_next)])
