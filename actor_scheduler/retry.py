"""Whether a failed attempt is followed by another, and when. Pure: the chance in the jitter is an argument."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from actor_scheduler.errors import InvalidArgs, said, storable
from actor_scheduler.limits import ATTEMPTS_MAX, RETRY_US_MIN
from actor_scheduler.times import Delay, delay_us

if TYPE_CHECKING:
    from collections.abc import Mapping

Backoff: TypeAlias = Literal["exponential", "linear", "constant"]
Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...]

_BACKOFFS: Final = get_args(Backoff)


class GiveUp(Exception):
    """Raised by a function: the job fails now, whatever its retry policy says."""


class RetryLater(Exception):
    """Raised by a function: the job runs again after `delay` (a timedelta, or seconds), as its next attempt.

    It opts this job into another attempt, with or without a retry policy.  A policy's `max_attempts` still holds.
    Raises InvalidTime for what is no delay.
    """

    def __init__(self, delay: Delay, reason: str = "") -> None:
        self.delay_us: Final = delay_us(delay)
        self.delay: Final = delay
        self.reason: Final = reason
        super().__init__(reason or f"to be tried again in {self.delay_us / 1_000_000:g} s")

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error be copied and pickled."""
        return type(self), (self.delay, self.reason)


class Retry:
    """How often a failed function is tried again, and with which pauses. A value; it never changes.

    `max_attempts` counts the first one.  The pause after attempt k is `base` (constant), `base` times k (linear) or
    `base` times `factor`^(k-1) (exponential), at most `max_delay`, then up to the share `jitter` (0.1: a tenth) more or
    less.  Delays are timedeltas or seconds.  An error is retried when it is a `retry_on` and not a `give_up_on`; both
    are compared by the names of the error's classes, so that a policy can be stored with a job.

    Raises InvalidArgs for anything that does not fit.
    """

    __slots__ = ("backoff", "base_us", "factor", "give_up_on", "jitter", "max_attempts", "max_delay_us", "retry_on")

    def __init__(
        self,
        max_attempts: int = 5,
        *,
        backoff: Backoff = "exponential",
        base: Delay = 1.0,
        factor: float = 2.0,
        max_delay: Delay = 3600.0,
        jitter: float = 0.1,
        retry_on: Errors = Exception,
        give_up_on: Errors = (),
    ) -> None:
        if type(max_attempts) is not int or not 1 <= max_attempts <= ATTEMPTS_MAX:
            msg = f"max_attempts must be a whole number from 1 to {ATTEMPTS_MAX}, not {max_attempts!r:.40}"
            raise InvalidArgs(msg)
        if not isinstance(backoff, str) or backoff not in _BACKOFFS:
            msg = f"backoff must be one of {sorted(_BACKOFFS)}, not {backoff!r:.40}"
            raise InvalidArgs(msg)
        self.max_attempts: Final = max_attempts
        self.backoff: Final[Backoff] = backoff
        self.base_us: Final = delay_us(base, what="base")
        self.factor: Final = _number(factor, "factor", 1.0, 1e6)
        self.max_delay_us: Final = delay_us(max_delay, what="max_delay")
        self.jitter: Final = _number(jitter, "jitter", 0.0, 1.0)
        self.retry_on: Final = _class_names(retry_on, "retry_on")
        self.give_up_on: Final = _class_names(give_up_on, "give_up_on")

    def __repr__(self) -> str:
        """Show what decides."""
        return f"Retry({self.max_attempts}, backoff={self.backoff!r}, base={self.base_us / 1_000_000:g})"

    def __eq__(self, other: object) -> bool:
        """Compare every part."""
        return isinstance(other, Retry) and self.to_plain() == other.to_plain()

    def __hash__(self) -> int:
        """Hash every part."""
        return hash(repr(self.to_plain()))

    def delay_us(self, attempt: int, chance: float) -> int:
        """Return the pause after failed attempt `attempt` (from 1), in microseconds; `chance` is from [0, 1)."""
        match self.backoff:
            case "constant":
                pause = float(self.base_us)
            case "linear":
                pause = float(self.base_us) * attempt
            case "exponential":
                pause = (
                    self.base_us * _power(self.factor, attempt - 1) if self.base_us else 0.0
                )  # 0 times inf is no number
        capped = min(pause, float(self.max_delay_us))
        return max(round(capped * (1 + self.jitter * (2 * chance - 1))), RETRY_US_MIN)

    def retries(self, error: BaseException | None) -> bool:
        """Return whether this error is one to try again after; None, an interruption, always is."""
        if error is None:
            return True
        names = {_name(cls) for cls in type(error).__mro__}
        return not names.isdisjoint(self.retry_on) and names.isdisjoint(self.give_up_on)

    def to_plain(self) -> dict[str, Any]:
        """Return the policy as plain values, to be stored with a job."""
        plain = {name: getattr(self, name) for name in self.__slots__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Retry:
        """Return the policy that `to_plain` wrote. Raises InvalidArgs for anything else: a row may be damaged."""
        try:
            policy = cls(
                plain["max_attempts"],
                backoff=plain["backoff"],
                base=plain["base_us"] / 1_000_000,
                factor=plain["factor"],
                max_delay=plain["max_delay_us"] / 1_000_000,
                jitter=plain["jitter"],
            )
            names = (tuple(map(str, plain["retry_on"])), tuple(map(str, plain["give_up_on"])))
        except (KeyError, TypeError) as error:
            msg = f"the stored retry policy can't be read: {said(error)}"
            raise InvalidArgs(msg) from error
        object.__setattr__(policy, "retry_on", names[0])
        object.__setattr__(policy, "give_up_on", names[1])
        return policy


def retry_policy(value: object) -> Retry:
    """Return a policy given as itself, or as its number of attempts. Raises InvalidArgs."""
    if isinstance(value, Retry):
        return value
    if type(value) is int:
        return Retry(value)
    msg = f"retry takes a Retry or a number of attempts, not {type(value).__name__}"
    raise InvalidArgs(msg)


def next_attempt_us(policy: Retry | None, attempt: int, error: BaseException | None, chance: float) -> int | None:
    """Return the pause before the attempt that follows failed attempt `attempt`; None when none follows.

    Without a policy only RetryLater gives another attempt.  With one, its `max_attempts` holds for RetryLater too.
    """
    if policy is not None and attempt >= policy.max_attempts:
        return None
    if isinstance(error, GiveUp):
        return None
    if isinstance(error, RetryLater):
        return max(error.delay_us, RETRY_US_MIN) if attempt < ATTEMPTS_MAX else None
    if policy is None or not policy.retries(error):
        return None
    return policy.delay_us(attempt, chance)


def _power(factor: float, exponent: int) -> float:
    try:
        return float(factor**exponent)
    except OverflowError:
        return math.inf


def _number(value: object, what: str, least: float, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        msg = f"{what} must be a number from {least:g} to {most:g}, not {value!r:.40}"
        raise InvalidArgs(msg)
    return float(value)


def _class_names(errors: Errors, what: str) -> tuple[str, ...]:
    classes = errors if isinstance(errors, tuple) else (errors,)
    for cls in classes:
        if not (isinstance(cls, type) and issubclass(cls, BaseException)):
            msg = f"{what} takes exception classes, not {cls!r:.80}"
            raise InvalidArgs(msg)
    return tuple(_name(cls) for cls in classes)


def _name(cls: type) -> str:
    return storable(f"{cls.__module__}.{cls.__qualname__}")
