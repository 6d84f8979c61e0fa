"""Tools for tests, of this project and of apps: a clock that only moves when told."""

from actor_scheduler.testing.clock import VirtualClock

__all__ = ["VirtualClock"]
