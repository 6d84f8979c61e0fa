"""Every error this project raises on purpose, each saying what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class ActorSchedulerError(Exception):
    """Base of every error the scheduler itself raises."""


# ------------------------------------------------------------------ what was asked is wrong


class InvalidArgs(ActorSchedulerError, ValueError):
    """The arguments, a key or an option do not fit; nothing was stored or run."""


class InvalidTime(InvalidArgs):
    """A delay or an instant breaks a time rule; nothing was stored."""


class InvalidCron(InvalidArgs):
    """A cron's definition can't work: it names the field and the reason; nothing was stored."""


class UnknownZone(InvalidCron):
    """There are no rules for the time zone: the name is wrong, or the zone was removed from the machine's database."""


class LimitExceeded(InvalidArgs):
    """A named limit (`actor_scheduler.limits`) was passed; nothing of this call was stored."""


class UnknownFunction(ActorSchedulerError, LookupError):
    """No function is registered under this path."""


class UnknownCron(ActorSchedulerError, LookupError):
    """There is no cron of this name."""


class WrongKind(ActorSchedulerError, TypeError):
    """The function exists, but not as the kind this use needs."""


class AccessDenied(ActorSchedulerError, PermissionError):
    """The function exists, but this invoker may not call it."""


class KeyConflict(ActorSchedulerError, ValueError):
    """The key is taken by a job this call may not join."""


class NotRegistrable(ActorSchedulerError, TypeError):
    """A decorator was put on something that could never run."""


# ------------------------------------------------------------------ wrong moment or wrong place


class AlreadyStarted(ActorSchedulerError, RuntimeError):
    """Definitions are made before the app starts."""


class NotStarted(ActorSchedulerError, RuntimeError):
    """The app is not running: its lifespan has not started, or has ended."""


class ContextClosed(ActorSchedulerError, RuntimeError):
    """A ctx was used after its function ended, or from another thread, task or process."""


class ForeignAwait(ActorSchedulerError, RuntimeError):
    """A query or mutation awaited something other than its own ctx; nothing of it was committed."""


class ForgottenAwait(ActorSchedulerError, RuntimeError):
    """A ctx call was created and never awaited; nothing of the mutation was committed."""


# ------------------------------------------------------------------ SQL from the app


class DatabaseError(ActorSchedulerError):
    """A statement of the app failed; the database's own error is its `__cause__`."""


class IntegrityError(DatabaseError):
    """A statement, or the commit, broke a constraint."""


class SqlRefused(DatabaseError):
    """The fence around app SQL refused this statement; it was not run."""


class TransactionLost(DatabaseError):
    """SQLite ended the transaction by itself; nothing of this call was committed."""


class TimeLimitExceeded(DatabaseError):
    """SQL ran past the function's time limit and was interrupted; nothing was committed."""


class TimedOut(ActorSchedulerError, TimeoutError):
    """A live action ran past its `timeout` and was canceled. What it had done before stands."""


class SchemaError(ActorSchedulerError):
    """The app's declared schema can't be applied, or the file's own version can't be used."""


# ------------------------------------------------------------------ the store can't take it


class StoreUnavailable(ActorSchedulerError):
    """Definitely not done: the store could not take the call. Sending it again is safe."""


class StoreFull(StoreUnavailable):
    """Definitely not done: the disk or the database is full. Queries go on; writes resume when space returns."""


class DatabaseLocked(StoreUnavailable):
    """Another process owns the database file."""


class Overloaded(ActorSchedulerError):
    """Definitely not done: a bounded queue is full. Try again later."""


class WriterStuck(ActorSchedulerError):
    """Definitely not accepted: a mutation has held the writer past its limit and grace."""


class OutcomeUnknown(ActorSchedulerError):
    """The commit may or may not have happened. Resend with the same `idempotency_key` to find out safely."""


class PartiallyScheduled(ActorSchedulerError):
    """`run_many` was cut short: `ids` are durable, the calls after them are not."""

    def __init__(self, ids: Sequence[str], cause: BaseException) -> None:
        super().__init__(f"{len(ids)} jobs are durable, then: {type(cause).__name__}: {cause}")
        self.ids = ids
        self.cause = cause

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error be copied and pickled."""
        return type(self), (self.ids, self.cause)


# ------------------------------------------------------------------ a function's own failure


class FunctionError(Exception):
    """A function's failure on purpose: code, message and data travel to the caller and into the job."""

    def __init__(self, code: str, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.data = data

    def __reduce__(self) -> tuple[Any, ...]:
        """Let the error be copied and pickled."""
        return type(self), (self.code, self.message, self.data)


# ------------------------------------------------------------------ carrying errors


def said(error: BaseException) -> str:
    """Return an error in one line. Never raises, whatever the error's own methods do."""
    try:
        text = str(error) if isinstance(error, ActorSchedulerError) else f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001 - an error's own __str__ may fail
        text = type(error).__name__
    return storable(" ".join(text.split()))


def storable(text: str) -> str:
    """Return text that can be encoded: a lone surrogate becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


def printable(text: str) -> str:
    """Return text, line by line, without what a terminal or a log would obey: other characters are escapes then."""
    return "\n".join(_line(line) for line in text.split("\n"))


def _line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape", "replace").decode() for each in text)


def bearable(error: BaseException) -> Exception:
    """Return an error that can be raised to a caller without stopping its event loop, or ending its generator."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    wrapped = RuntimeError(f"the function raised {said(error)}")
    wrapped.__cause__ = error
    return wrapped
