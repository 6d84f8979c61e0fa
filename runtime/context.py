"""What a function sees as `ctx`: the database, the scheduler, other functions, who called, and the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, overload

from typing_extensions import TypeVar as DefaultTypeVar

from actor_scheduler.clock import sleep_until
from actor_scheduler.crons.handle import Crons
from actor_scheduler.errors import ContextClosed
from actor_scheduler.ports import ActorPort, TxPort
from actor_scheduler.scheduler import Scheduler
from actor_scheduler.times import Delay, delay_us, to_datetime
from runtime.conversion import many, one, value
from runtime.invoke import Invocation, invoke, prepare_nested
from runtime.invoker import CronInvoker, Invoker, JobInvoker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
    from datetime import datetime

    from actor_scheduler.model import Args
    from actor_scheduler.ports import Running
    from actor_scheduler.store.base import Params, Snapshot, Tx
    from actor_scheduler.store.rows import Result, Row
    from runtime.engine import Engine
    from runtime.functions import Action, Function, Mutation, Query

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
AuthT = DefaultTypeVar("AuthT", default=Any)


_U64 = (1 << 64) - 1


class Ctx(Protocol):
    """What `invoke` needs of a ctx."""

    def _close(self) -> None: ...


class Reader:
    """Reads with ordinary SQL, `?` or `:name` for parameters. Rows are by name and by position.

    Raises SqlRefused for a statement that is not allowed here, DatabaseError for one that fails.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    @overload
    def fetch_one(self, sql: str, params: Params = (), /) -> Coroutine[Any, Any, Row | None]: ...
    @overload
    def fetch_one(self, sql: str, params: Params = (), /, *, into: type[T]) -> Coroutine[Any, Any, T | None]: ...
    def fetch_one(self, sql: str, params: Params = (), /, *, into: Any = None) -> Coroutine[Any, Any, Any]:
        """Return the first row, or None; as `into` (a pydantic model, dataclass, TypedDict) when given."""
        return self._snapshot.fetch_one(sql, params, one(into) if into is not None else None)

    @overload
    def fetch_all(self, sql: str, params: Params = (), /) -> Coroutine[Any, Any, list[Row]]: ...
    @overload
    def fetch_all(self, sql: str, params: Params = (), /, *, into: type[T]) -> Coroutine[Any, Any, list[T]]: ...
    def fetch_all(self, sql: str, params: Params = (), /, *, into: Any = None) -> Coroutine[Any, Any, Any]:
        """Return all rows, as a list; each as `into` when given."""
        return self._snapshot.fetch_all(sql, params, many(into) if into is not None else None)

    @overload
    def fetch_value(self, sql: str, params: Params = (), /) -> Coroutine[Any, Any, Any]: ...
    @overload
    def fetch_value(self, sql: str, params: Params = (), /, *, into: type[T]) -> Coroutine[Any, Any, T | None]: ...
    def fetch_value(self, sql: str, params: Params = (), /, *, into: Any = None) -> Coroutine[Any, Any, Any]:
        """Return the first column of the first row, or None when there is no row; as `into` when given."""
        return self._snapshot.fetch_one(sql, params, value(into))


class Writer(Reader):
    """Reads and writes. Reads see the transaction's own writes.

    Raises IntegrityError for a broken constraint: a mutation that catches it goes on, with that statement undone.
    """

    def __init__(self, tx: Tx) -> None:
        super().__init__(tx)
        self._tx = tx

    def execute(self, sql: str, params: Params = (), /) -> Coroutine[Any, Any, Result]:
        """Run one statement and return its rowcount and lastrowid."""
        return self._tx.execute(sql, params)

    def executemany(self, sql: str, rows: Iterable[Params], /) -> Coroutine[Any, Any, Result]:
        """Run one statement for each row of parameters; `rowcount` is over all of them."""
        return self._tx.executemany(sql, rows)


class QueryCtx(Generic[AuthT]):
    """The ctx of a query. It has no scheduler at all."""

    def __init__(self, engine: Engine, snapshot: Snapshot, invocation: Invocation) -> None:
        self._engine = engine
        self._snapshot = snapshot
        self._invocation = invocation
        self._closed = False
        self._db: Reader | None = None

    @property
    def db(self) -> Reader:
        """The database, as it was when the query began."""
        if self._db is None:
            self._db = Reader(self._open(self._snapshot))
        return self._db

    @property
    def now(self) -> datetime:
        """The app's clock, frozen for the whole call. Aware, UTC."""
        return to_datetime(self._snapshot.now_us)

    @property
    def auth(self) -> AuthT | None:
        """Who the app says is calling; None for scheduled runs unless the app's resolver says otherwise."""
        auth: AuthT | None = self._invocation.auth
        return auth

    @property
    def invoker(self) -> Invoker:
        """Who or what caused this call."""
        return self._invocation.invoker

    @overload
    def run_query(self, fn: Query[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def run_query(self, path: str, args: Args | None = None, /) -> Coroutine[Any, Any, Any]: ...
    def run_query(self, fn: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run another query on the same data and return its result."""
        called = self._prepare("query", fn, args, kwargs)
        return self._open(self._snapshot).nested_query(
            lambda snapshot: invoke(called, QueryCtx(self._engine, snapshot, called)),
        )

    def _prepare(self, kind: Any, fn: Any, args: Any, kwargs: Any) -> Invocation:
        path, named = self._engine.target(fn, args, kwargs)
        return prepare_nested(self._engine.registry, path, named, self._invocation, kind)

    def _open(self, what: T) -> T:
        if self._closed:
            msg = f"the ctx of {self._invocation.function.path} was used after the function ended"
            raise ContextClosed(msg)
        return what

    def _close(self) -> None:
        self._closed = True


class MutationCtx(QueryCtx[AuthT]):
    """The ctx of a mutation; a helper written for QueryCtx works with it."""

    def __init__(self, engine: Engine, tx: Tx, invocation: Invocation) -> None:
        super().__init__(engine, tx, invocation)
        self._tx = tx
        self._writer: Writer | None = None
        self._scheduler: Scheduler | None = None
        self._crons: Crons | None = None

    @property
    def db(self) -> Writer:
        """The database, inside this mutation's transaction."""
        if self._writer is None:
            self._writer = Writer(self._open(self._tx))
        return self._writer

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler, inside this transaction: what is scheduled or canceled commits or rolls back with it."""
        if self._scheduler is None:
            called = self._invocation
            self._scheduler = Scheduler(TxPort(self._open(self._tx), called.job_id, called.chain), self._engine)
        return self._scheduler

    @property
    def crons(self) -> Crons:
        """Crons, inside this transaction: what is changed of them commits or rolls back with it."""
        if self._crons is None:
            self._crons = Crons(TxPort(self._open(self._tx), self._invocation.job_id), self._engine.check)
        return self._crons

    @overload
    def run_mutation(self, fn: Mutation[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def run_mutation(self, path: str, args: Args | None = None, /) -> Coroutine[Any, Any, Any]: ...
    def run_mutation(self, fn: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run another mutation as a part of this one and return its result.

        If it raises, its own writes and jobs are undone; catch the error to go on without them.
        """
        called = self._prepare("mutation", fn, args, kwargs)
        return self._open(self._tx).nested(lambda tx: invoke(called, MutationCtx(self._engine, tx, called)))


class ActionCtx(Generic[AuthT]):
    """The ctx of an action. What it schedules or writes stands at once, even if the action fails later."""

    def __init__(self, engine: Engine, invocation: Invocation) -> None:
        self._engine = engine
        self._invocation = invocation
        self._closed = False
        self._scheduler: Scheduler | None = None
        self._crons: Crons | None = None
        self._own_key: str | None = None

    @property
    def now(self) -> datetime:
        """The app's clock; it moves. Aware, UTC."""
        return to_datetime(self._engine.clock.now_us())

    @property
    def auth(self) -> AuthT | None:
        """Who the app says is calling; None for scheduled runs unless the app's resolver says otherwise."""
        auth: AuthT | None = self._invocation.auth
        return auth

    @property
    def invoker(self) -> Invoker:
        """Who or what caused this call."""
        return self._invocation.invoker

    @property
    def idempotency_key(self) -> str:
        """A key for calls outside: the job's `occurrence_id` when scheduled, else one for this call. Never None."""
        invoker = self._invocation.invoker
        if isinstance(invoker, JobInvoker | CronInvoker):
            return invoker.occurrence_id
        if self._own_key is None:
            nonces = self._engine.nonces
            self._own_key = f"{nonces() & _U64:016x}{nonces() & _U64:016x}"
        return self._own_key

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler; what it is told is durable when the call returns."""
        if self._scheduler is None:
            self._check_open()
            called = self._invocation
            port = ActorPort(self._running, parent_id=called.job_id, chain=called.chain, inside=True)
            self._scheduler = Scheduler(port, self._engine)
        return self._scheduler

    @property
    def crons(self) -> Crons:
        """Crons; what is changed of them is durable when the call returns."""
        if self._crons is None:
            self._check_open()
            self._crons = Crons(ActorPort(self._running, inside=True), self._engine.check)
        return self._crons

    async def sleep(self, delay: Delay, /) -> None:
        """Wait for a timedelta or seconds on the app's clock: virtual in tests. Raises InvalidTime."""
        self._check_open()
        clock = self._engine.clock
        until_us = clock.now_us() + delay_us(delay)
        with self._engine.sleeping(self._invocation.job_id):
            await sleep_until(clock, until_us)

    @overload
    def use(self, provider: Callable[[], AsyncIterator[T]], /) -> Coroutine[Any, Any, T]: ...
    @overload
    def use(self, provider: Callable[[], Coroutine[Any, Any, T]], /) -> Coroutine[Any, Any, T]: ...
    @overload
    def use(self, provider: Callable[[], T], /) -> Coroutine[Any, Any, T]: ...
    def use(self, provider: Any, /) -> Coroutine[Any, Any, Any]:
        """Return what a provider makes: once for the app, shared by its actions, closed when the app stops.

        A provider is a function without arguments: a plain one, an `async def`, or one that yields once (what comes
        after the `yield` runs at shutdown), as FastAPI's dependencies are.
        """
        self._check_open()
        return self._engine.providers.use(provider)

    @overload
    def run_query(self, fn: Query[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def run_query(self, path: str, args: Args | None = None, /) -> Coroutine[Any, Any, Any]: ...
    def run_query(self, fn: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run a query in a snapshot of its own and return its result."""
        return self._run("query", fn, args, kwargs)

    @overload
    def run_mutation(self, fn: Mutation[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def run_mutation(self, path: str, args: Args | None = None, /) -> Coroutine[Any, Any, Any]: ...
    def run_mutation(self, fn: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run a mutation in a transaction of its own and return its result, once that is durable."""
        return self._run("mutation", fn, args, kwargs)

    @overload
    def run_action(self, fn: Action[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def run_action(self, path: str, args: Args | None = None, /) -> Coroutine[Any, Any, Any]: ...
    def run_action(self, fn: Any, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Run another action right here and return its result."""
        return self._run("action", fn, args, kwargs)

    def _run(self, kind: Any, fn: Function[..., Any] | str, args: Any, kwargs: Any) -> Coroutine[Any, Any, Any]:
        self._check_open()
        path, named = self._engine.target(fn, args, kwargs)
        called = prepare_nested(self._engine.registry, path, named, self._invocation, kind)
        return self._engine.enter(called, inside=True)

    def _running(self) -> Running:
        self._check_open()
        return self._engine.running()

    def _check_open(self) -> None:
        if self._closed:
            msg = f"the ctx of {self._invocation.function.path} was used after the function ended"
            raise ContextClosed(msg)

    def _close(self) -> None:
        self._closed = True


class CanSchedule(Protocol):
    """For helpers shared by mutations, actions and routes: anything with a scheduler."""

    @property
    def scheduler(self) -> Scheduler:
        """The scheduler of this place."""
        ...
