"""A module that defines a cron that is none, in a function."""

from __future__ import annotations

from runtime import App

app = App("miscron.db")


def define() -> None:
    """Define it."""
    app.crons.daily("digest", "digests:send", at="25:00", tz="Mars/Olympus")


define()
