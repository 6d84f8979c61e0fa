"""Driving a query's or a mutation's coroutine to its end on a database thread.

Such a function may only await its ctx, and on SQLite those awaitables finish at once, so one `send(None)` runs the
whole body.  A body that really suspends has awaited something else: it is poisoned, closed, and refused.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NoReturn

from actor_scheduler.errors import ForeignAwait

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from contextvars import Context

    from actor_scheduler.store.sqlite.body import Body

FOREIGN = (
    "a {kind} may only await its own ctx, but it {did}. Nothing of it was kept. "
    "Do I/O, sleeping and task switching in an action; call the mutation from there, or schedule the action from here"
)


class Immediate(Coroutine[Any, Any, Any]):
    """One call on ctx: made when called, carried out when awaited, and finished at once.

    It counts itself as outstanding until it is awaited, so that a forgotten `await` is found.
    """

    __slots__ = ("_args", "_body", "_work")

    def __init__(self, body: Body, work: Callable[..., Any], *args: Any) -> None:
        body.outstanding += 1
        self._body = body
        self._work: Callable[..., Any] | None = work
        self._args = args

    def __await__(self) -> Generator[Any, Any, Any]:
        """Carry the call out; only a nested function's own body can suspend in here."""
        result = self._carry_out()
        if type(result) is CoroutineType:
            result = yield from result.__await__()
        return result

    def _carry_out(self) -> Any:
        work = self._work
        if work is None:
            msg = "this ctx call was awaited before; call it again instead"
            raise RuntimeError(msg)
        self._work = None
        body = self._body
        body.outstanding -= 1
        body.check_usable()
        return work(*self._args)

    def send(self, _value: Any, /) -> Any:
        """Carry the call out; what `asyncio.create_task` on a call would do."""
        raise StopIteration(self._carry_out())

    def throw(self, typ: Any, val: Any = None, tb: Any = None, /) -> NoReturn:
        """Raise at once: there is nothing inside to catch it."""
        error = val if val is not None else typ
        raise (error if isinstance(error, BaseException) else error()).with_traceback(tb)

    def close(self) -> None:
        """Do nothing: nothing has begun."""


class NoLoop:
    """What `asyncio.get_running_loop()` gives inside a query or mutation: every use of it is a foreign await.

    A body that awaits `asyncio.sleep(1)` fails with the sentence that says what to do, and is refused even if it
    swallows that error.
    """

    body: Body | None = None

    def __getattr__(self, name: str) -> NoReturn:
        """Refuse whatever the body wanted of an event loop."""
        body = self.body
        if name.startswith("__") or body is None:
            raise AttributeError(name)
        error = ForeignAwait(FOREIGN.format(kind=body.kind, did=f"needed the event loop ({name})"))
        body.poison(error)
        raise error


@contextlib.contextmanager
def no_loop(stub: NoLoop) -> Iterator[None]:
    """Make `stub` the running loop of this thread for a while."""
    before = asyncio._get_running_loop()  # noqa: SLF001 - public for those who write event loops
    asyncio._set_running_loop(stub)  # type: ignore[arg-type]  # noqa: SLF001 - a loop that refuses everything
    try:
        yield
    finally:
        asyncio._set_running_loop(before)  # noqa: SLF001


def drive(coroutine: Coroutine[Any, Any, Any], body: Body, context: Context, stub: NoLoop) -> Any:
    """Run a body to its end and return what it returned.

    Raises what it raised; ForeignAwait when it suspended; the poison, when the body swallowed it.
    """
    stub.body = body
    try:
        context.run(coroutine.send, None)
    except StopIteration as stop:
        body.check_finished()
        return stop.value
    except BaseException:
        # What poisoned the body is the cause, whatever the body made of it.
        if body.poisoned is not None:
            raise body.poisoned from None
        raise
    finally:
        stub.body = None
    body.poison(ForeignAwait(FOREIGN.format(kind=body.kind, did="suspended on something else")))
    # Poisoned before it is closed: a `finally` block that writes is refused.
    with contextlib.suppress(BaseException):
        context.run(coroutine.close)
    assert body.poisoned is not None
    raise body.poisoned
