"""A running app: the functions on one side, the actor and its store on the other."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from contextlib import AbstractContextManager
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic_core import PydanticSerializationError, to_jsonable_python

from actor_scheduler import codec
from actor_scheduler.errors import (
    FunctionError,
    InvalidArgs,
    TimedOut,
    TimeLimitExceeded,
    UnknownFunction,
    WrongKind,
    said,
    storable,
)
from actor_scheduler.ids import NonceSource, parse_id
from actor_scheduler.limits import ERROR_CHARS_MAX, KEEP_US, RESOLVER_US_MAX, TRACEBACK_CHARS_MAX
from actor_scheduler.model import Again, Cause, DueJob, Failed, Outcome, Succeeded
from actor_scheduler.ports import Running
from actor_scheduler.retry import Retry, next_attempt_us
from actor_scheduler.store.base import Earlier, Idempotent, Mutate
from runtime.context import ActionCtx, MutationCtx, QueryCtx
from runtime.feed import Feed
from runtime.functions import Function
from runtime.invoke import Invocation, invoke, prepare
from runtime.invoker import CronInvoker, Invoker, JobInvoker, RpcInvoker
from runtime.loop_lag import LoopLag
from runtime.meter import Meter
from runtime.observing import Observing
from runtime.quota import Usage
from runtime.waiting import within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from actor_scheduler.actor import Actor
    from actor_scheduler.clock import Clock
    from actor_scheduler.model import Args, Kind
    from actor_scheduler.queues import Routing
    from actor_scheduler.store.base import MutationBody, Snapshot, Store, Tx
    from runtime.hooks import Hooks
    from runtime.providers import Providers
    from runtime.quota import Quota
    from runtime.registry import Registry


_CODE_CHARS_MAX: Final = 128
_U53: Final = (1 << 53) - 1

log = logging.getLogger("actor_scheduler")


@dataclass(frozen=True, slots=True)
class AuthRequest:
    """What the app's auth resolver is asked: who caused the call, and the request's headers if there was one."""

    invoker: Invoker
    headers: Mapping[str, str]

    @property
    def source(self) -> Literal["rpc", "scheduled", "other"]:
        """A client's request, or a run of the scheduler or a cron (who asked for it: `invoker.source`)."""
        if isinstance(self.invoker, JobInvoker | CronInvoker):
            return "scheduled"
        return "rpc" if isinstance(self.invoker, RpcInvoker) else "other"


class Undispatchable(Exception):
    """A due job whose body is not entered, with the cause it fails with."""

    def __init__(self, cause: Cause, error: BaseException) -> None:
        super().__init__(str(error))
        self.cause = cause
        self.error = error


class Engine:
    """Serves live calls, and is the host the actor asks about due jobs. Both end in `invoke`."""

    def __init__(
        self,
        registry: Registry,
        clock: Clock,
        providers: Providers,
        resolver: Callable[[AuthRequest], Awaitable[Any]] | None,
        nonces: NonceSource,
        hooks: Hooks,
        routing: Routing,
        quota: Quota[Any] | None = None,
    ) -> None:
        self.registry = registry
        self.clock = clock
        self.began_us = clock.now_us()
        self.providers = providers
        self.hooks = hooks
        names = {
            path: function.path for function in registry.functions() for path in (function.path, *function.aliases)
        }
        self.meter = Meter(names)
        self.feed = Feed()
        self.loop_lag = LoopLag()
        self._observing = Observing(hooks, self.meter, self.feed)
        self.observes = True  # ~3 us of CPU for each attempt: a twentieth of what a due job costs
        self.starting = self._observing.starting
        self.attempted = self._observing.attempted
        self.routing = routing
        self.prepares = resolver is not None
        self._resolver = resolver
        self._usage = Usage(quota, clock) if quota is not None else None
        self.nonces = nonces
        self._running: Running | None = None

    def attach(self, actor: Actor, store: Store) -> None:
        """Complete the circle: the store and the actor were made with this engine as their host."""
        self._running = Running(actor, store, self.clock)
        actor.witness = self._observing

    def running(self) -> Running:
        """Return what runs."""
        assert self._running is not None
        return self._running

    async def close(self) -> None:
        """Let go of what lasts as long as one run of the app: listeners, and what providers have made."""
        self.feed.close()
        self.loop_lag.stop()
        await self.providers.close()

    # ------------------------------------------------------------ live calls

    def target(self, fn: Function[..., Any] | str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[str, Args]:
        """Return path and named arguments of `run(fn, …)` or `run(path, args)`.

        Raises UnknownFunction when the function is not this app's, InvalidArgs when the call has neither form.
        """
        if isinstance(fn, Function):
            if self.registry.resolve(fn.path) is not fn:
                msg = f"{fn!r} is not this app's function of that path: include its namespace"
                raise UnknownFunction(msg)
            return fn.path, fn.arguments.bind(args, kwargs)
        if isinstance(fn, str) and len(args) <= 1 and not kwargs:
            named = args[0] if args else {}
            if named is None or hasattr(named, "keys"):
                return fn, named or {}
        msg = "call(fn, name=value, …) for a function, call('namespace:function', {…}) for a path"
        raise InvalidArgs(msg)

    async def call(
        self,
        path: str,
        args: Args,
        invoker: Invoker,
        auth: Any,
        idempotency_key: str | None = None,
    ) -> Any:
        """Run a function now and return what it returned. A mutation is durable when this returns."""
        with self.admitted(auth):
            called = prepare(self.registry, path, args, invoker, auth)
            once = self.recorded(called, idempotency_key) if idempotency_key is not None else None
            return await self.enter(called, once=once)

    def admitted(self, auth: Any) -> AbstractContextManager[None]:
        """Count a live call on the quota of who calls, while it lasts. Raises Overloaded."""
        return contextlib.nullcontext() if self._usage is None else self._usage.admitted(auth)

    async def enter(self, called: Invocation, *, inside: bool = False, once: Idempotent | None = None) -> Any:
        """Bring a prepared invocation to where its kind runs: a reader, the writer's turn, or right here."""
        function = called.function
        running = self.running()
        if once is not None:
            return await self._enter_once(called, once)
        if function.kind != "mutation":  # `submit` looks itself
            running.actor.check_usable(inside=inside)
        match function.kind:
            case "query":
                return await running.store.query(self._query_body(called), function.policy.timeout_us)
            case "mutation":
                unit = Mutate(self._mutation_body(called), copy_context(), function.policy.timeout_us)
                return await running.actor.submit(unit, inside=inside)
            case "action":
                return await self._run_action(called)

    async def _run_action(self, called: Invocation) -> Any:
        """Run an action that somebody waits for, within its own time. Raises TimedOut."""
        limit_us = called.function.policy.timeout_us
        body = invoke(called, ActionCtx(self, called))
        if limit_us is None:
            return await body
        return await within(self.clock, limit_us, body, f"{called.function.path} was still running")

    def recorded(self, called: Invocation, key: str) -> Idempotent:
        """Return under what a call's outcome is recorded. Raises WrongKind, and InvalidArgs for what can't be kept."""
        function = called.function
        if function.kind != "mutation":
            msg = (
                f"{function.path} is a {function.kind}: only a mutation's outcome is recorded under an idempotency key"
            )
            raise WrongKind(msg)
        return Idempotent(key, function.path, function.arguments.freeze(called.args, function.path))

    async def _enter_once(self, called: Invocation, once: Idempotent) -> Any:
        function = called.function
        unit = Mutate(self._mutation_body(called), copy_context(), function.policy.timeout_us, once)
        answer = await self.running().actor.submit(unit)
        return function.arguments.returned(answer.value) if isinstance(answer, Earlier) else answer

    def _query_body(self, called: Invocation) -> Callable[[Snapshot], Coroutine[Any, Any, Any]]:
        return lambda snapshot: invoke(called, QueryCtx(self, snapshot, called))

    def _mutation_body(self, called: Invocation) -> MutationBody:
        def body(tx: Tx) -> Coroutine[Any, Any, Any]:
            return invoke(called, MutationCtx(self, tx, called))

        return body

    def sleeping(self, job_id: str | None) -> AbstractContextManager[None]:
        """Mark a scheduled action as waiting for the clock; a live one is its caller's to wait for."""
        parsed = parse_id(job_id) if job_id is not None else None
        return self.running().actor.attempts.sleeping(parsed[0] if parsed is not None else None)

    # ------------------------------------------------------------ Targets: what may be scheduled

    def check(self, path: str, args: Args, function: object) -> tuple[str, Kind, bytes]:
        """Return the canonical path, the kind and the encoded arguments of a call that can be scheduled."""
        return self.registry.schedulable(path, args, function)

    def paths(self, path: str) -> tuple[str, ...]:
        """Return every path under which jobs of this function may stand."""
        return self.registry.paths(path)

    # ------------------------------------------------------------ Host: due jobs

    async def prepare(self, job: DueJob) -> Any:
        """Resolve the identity of a due job; an error becomes the job's failure."""
        what = f"the auth resolver did not answer for {job.path} {job.id}"
        try:
            return await within(self.clock, RESOLVER_US_MAX, self._auth(_invoker(job)), what)
        except TimedOut as error:
            return Undispatchable("timeout", error)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # the app is stopping; otherwise the resolver raised it
            return Undispatchable("error", error)
        except BaseException as error:
            return Undispatchable("error", error)

    async def _auth(self, invoker: Invoker) -> Any:
        return await self.resolve(AuthRequest(invoker, {}))

    async def resolve(self, request: AuthRequest) -> Any:
        """Return who the app's resolver says that a call acts as; None when the app has none."""
        return await self._resolver(request) if self._resolver is not None else None

    def mutation(self, job: DueJob, prepared: Any) -> tuple[MutationBody, int | None]:
        """Return the body of a due mutation and its time limit. Raises Undispatchable."""
        if isinstance(prepared, Undispatchable):
            raise prepared
        called = self._due(job, prepared)
        return self._mutation_body(called), job.timeout_us or called.function.policy.timeout_us

    async def action(self, job: DueJob) -> Outcome:
        """Run one attempt of a claimed action and return its outcome."""
        try:
            called = self._due(job, await self._auth(_invoker(job)) if self._resolver is not None else None)
            value = await invoke(called, ActionCtx(self, called))
        except Exception as error:
            return self.judge(job, self.failure(error), error)
        return Succeeded(*self.keep(job.path, value))

    def timeout_us(self, job: DueJob) -> int | None:
        """Return how long an attempt of this action may take: what the job says, or else its function."""
        if job.timeout_us is not None:
            return job.timeout_us
        policy = self.registry.policy(job.path)
        return policy.timeout_us if policy is not None else None

    def keep_us(self, path: str) -> int | None:
        """Return how long an ended job of this function is kept; None for ever."""
        policy = self.registry.policy(path)
        return policy.keep_us if policy is not None else KEEP_US

    def _due(self, job: DueJob, auth: Any) -> Invocation:
        """Prepare a due job: whatever stands in its row may be from another release, or damaged."""
        invoker = _invoker(job)
        try:
            args = codec.decode(job.args)
            if not isinstance(args, dict):
                msg = "the stored arguments are not a map"
                raise InvalidArgs(msg)
            called = prepare(self.registry, job.path, args, invoker, auth, kind=job.kind, job_id=job.id)
        except InvalidArgs as error:
            cause: Cause = "invalid_args"
            raise Undispatchable(cause, error) from error
        except (UnknownFunction, WrongKind) as error:
            cause = "unknown_function"
            raise Undispatchable(cause, error) from error
        return called._replace(chain=job.chain)

    # ------------------------------------------------------------ Host: failures

    def judge(self, job: DueJob, failure: Failed, error: BaseException | None) -> Failed | Again:
        """Return what becomes of a failed attempt: what the job's retry policy says, or else its function's.

        A job that can't be dispatched at all fails for good: no pause brings its function, or its arguments, back.
        """
        if isinstance(error, Undispatchable):
            if failure.cause in ("invalid_args", "unknown_function"):
                return failure
            error = error.error
        pause_us = next_attempt_us(self._retry(job), job.attempt, error, self._chance())
        return failure if pause_us is None else Again(failure, pause_us)

    def _retry(self, job: DueJob) -> Retry | None:
        if job.retry is not None:
            try:
                return Retry.from_plain(codec.decode(job.retry))
            except InvalidArgs as damaged:
                log.error("%s %s: %s; its function's policy holds", job.path, job.id, damaged)  # noqa: TRY400
        policy = self.registry.policy(job.path)
        return policy.retry if policy is not None else None

    def _chance(self) -> float:
        return (self.nonces() & _U53) / (_U53 + 1)

    def failure(self, error: BaseException) -> Failed:
        """Return the outcome an error stands for. Never raises, whatever the error's own methods do."""
        if isinstance(error, Undispatchable):
            return Failed(error.cause, said(error.error)[:ERROR_CHARS_MAX])
        cause: Cause = "timeout" if isinstance(error, TimeLimitExceeded) else "error"
        trace = _trace(error)
        if isinstance(error, FunctionError):
            return Failed(cause, said(error)[:ERROR_CHARS_MAX], _code(error), _data(error), trace)
        return Failed(cause, said(error)[:ERROR_CHARS_MAX], traceback=trace)

    def keep(self, path: str, value: object) -> tuple[bytes | None, bool]:
        """Return what is kept of a result: models and dataclasses as their fields, else an extract."""
        del path
        kept, truncated = codec.encode_result(value)
        if truncated:
            with contextlib.suppress(PydanticSerializationError, ValueError, TypeError, RecursionError):
                plain = to_jsonable_python(value)
                if plain is not value:
                    return codec.encode_result(plain)
        return kept, truncated


def _invoker(job: DueJob) -> JobInvoker | CronInvoker:
    told = (job.id, job.attempt, job.scheduled_at_us, job.dispatched_at_us, job.occurrence_id)
    if job.cron is None:
        return JobInvoker(*told)
    return CronInvoker(*told, job.cron, "cron" if job.tick_us is not None else "admin", job.cron_run)


def _data(error: FunctionError) -> bytes | None:
    if error.data is None:
        return None
    kept, _ = codec.encode_result(error.data)
    return kept


def _code(error: FunctionError) -> str:
    try:
        return storable(str(error.code))[:_CODE_CHARS_MAX]
    except Exception:  # whatever was passed as a code
        return "INTERNAL"


def _trace(error: BaseException) -> str | None:
    try:
        text = "".join(traceback.format_exception(error))
        if len(text) > TRACEBACK_CHARS_MAX:  # the frames are worth more than the end of a long message
            frames = "".join(traceback.format_tb(error.__traceback__))
            text = f"{frames[-TRACEBACK_CHARS_MAX // 2 :]}{said(error)[: TRACEBACK_CHARS_MAX // 2]}"
    except Exception:  # an error's own methods may fail
        return None
    return storable(text)
