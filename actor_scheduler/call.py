"""A call as a value: one function with its arguments, and optionally its moment and options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, Self

from typing_extensions import Unpack

from actor_scheduler.errors import InvalidArgs
from actor_scheduler.model import Args, JobOptions, R_co
from actor_scheduler.times import After, At, Delay, Due, Instant


class Call(Generic[R_co]):
    """One function with its arguments and, optionally, its moment and options: a value to build, keep and schedule.

    The function, its arguments and the moment are checked when it is scheduled.  `fn.bind(…)` is the typed way to make
    one.  Raises InvalidArgs when the path is no str, or the arguments are no mapping.
    """

    __slots__ = ("args", "due", "function", "options", "path")

    def __init__(self, path: str, args: Args | None = None, /, *, function: object = None) -> None:
        if not isinstance(path, str):
            msg = f"a call takes a 'namespace:function' path, not {type(path).__name__}; for a function use fn.bind(…)"
            raise InvalidArgs(msg)
        if args is not None and not isinstance(args, Mapping):
            msg = f"arguments are a mapping of names to values, not {type(args).__name__}"
            raise InvalidArgs(msg)
        self.path = path
        self.args: Args = dict(args or {})
        self.due: Due | None = None
        self.options: JobOptions = {}
        self.function = function  # whose path it is, when it was bound: another app may use the same path

    def after(self, delay: Delay = 0, /, **options: Unpack[JobOptions]) -> Self:
        """Return the same call, due `delay` (a timedelta, or seconds) after it is accepted."""
        return self._moved(After(delay), options)

    def at(self, when: Instant, /, **options: Unpack[JobOptions]) -> Self:
        """Return the same call, due at an instant (an aware datetime, or epoch seconds)."""
        return self._moved(At(when), options)

    def _moved(self, due: Due, options: JobOptions) -> Self:
        copy = type(self)(self.path, self.args, function=self.function)
        copy.due = due
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
        return self.path, self.args, self.due, self.options
