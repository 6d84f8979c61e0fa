"""A call as a value: one function with its arguments, and optionally its moment and options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Self

from typing_extensions import Unpack

from actor_scheduler.model import Args, JobOptions, R_co

if TYPE_CHECKING:
    from actor_scheduler.times import Delay, Instant


class Call(Generic[R_co]):
    """One function with its arguments and, optionally, its moment and options: a value to build, keep and schedule.

    Arguments are checked when it is scheduled, not here.  `fn.bind(…)` is the typed way to make one.
    """

    __slots__ = ("args", "delay", "instant", "options", "path")

    def __init__(self, path: str, args: Args | None = None, /) -> None:
        self.path = path
        self.args: Args = dict(args or {})
        self.delay: Delay | None = None
        self.instant: Instant | None = None
        self.options: JobOptions = {}

    def after(self, delay: Delay = 0, /, **options: Unpack[JobOptions]) -> Self:
        """Return the same call, due `delay` (a timedelta, or seconds) after it is accepted."""
        return self._moved(delay, None, options)

    def at(self, when: Instant, /, **options: Unpack[JobOptions]) -> Self:
        """Return the same call, due at an instant (an aware datetime, or epoch seconds)."""
        return self._moved(None, when, options)

    def _moved(self, delay: Delay | None, instant: Instant | None, options: JobOptions) -> Self:
        copy = type(self)(self.path, self.args)
        copy.delay, copy.instant = delay, instant
        copy.options = {**self.options, **options}
        return copy

    def __repr__(self) -> str:
        """Show path and arguments."""
        shown = ", ".join(f"{name}={value!r}" for name, value in self.args.items())
        return f"Call({self.path}: {shown})"

    def __eq__(self, other: object) -> bool:
        """Compare everything the call consists of."""
        return isinstance(other, Call) and self._parts() == other._parts()

    __hash__ = None  # type: ignore[assignment]  # it holds a dict

    def _parts(self) -> tuple[Any, ...]:
        return self.path, self.args, self.delay, self.instant, self.options
