"""Named points at which a test may stop the process, or fail the step. In production each is one `is None` check."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_hook: Callable[[str], None] | None = None

POINTS: frozenset[str] = frozenset({
    "boot.locked", "boot.connected", "boot.migrated", "boot.judged", "boot.rerouted", "boot.recovered",
    "boot.ready", "lanes.settled", "setting.written", "drop.written",
    "turn.before_begin", "turn.begun", "turn.before_commit", "turn.committed", "turn.replied",
    "schedule.before_insert", "schedule.inserted", "cancel.before", "cancel.after",
    "mutation.before", "mutation.savepoint", "mutation.body_done", "mutation.completion_written", "mutation.released",
    "mutation.failed_rolled_back", "mutation.failure_written",
    "claim.before", "claim.written", "action.before_start", "action.started", "action.body_done",
    "complete.before", "complete.written", "retry.before", "retry.written", "prune.before", "prune.written",
    "cron.before", "cron.runs_written", "cron.moved", "cron.stored", "cron.deleted", "manifest.staged",
    "manifest.activated",
    "alarm.armed", "refill.read", "shutdown.begun", "shutdown.drained", "shutdown.checkpointed", "shutdown.closed",
})  # fmt: skip


def install(hook: Callable[[str], None] | None) -> None:
    """Call `hook` at every point from now on; None takes it away. For tests only."""
    global _hook  # noqa: PLW0603 - one per process is the point: a crash ends the process
    _hook = hook


def reach(point: str) -> None:
    """Tell the hook, if there is one, that this point was reached."""
    if _hook is not None:
        _hook(point)
