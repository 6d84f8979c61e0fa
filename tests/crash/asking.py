"""One call from outside, made on an app, and the verdict on its answer. Both ways to ask end here: pipe and HTTP."""

from __future__ import annotations

import traceback
from datetime import timedelta
from typing import Any

from actor_scheduler.crons.schedule import Every
from runtime import ActorSchedulerError, App, FunctionError, OutcomeUnknown, PartiallyScheduled
from tests.crash import crons
from tests.crash.functions import POOL, call_of, calls_of, options_of, work
from tests.crash.history import Answer, Ask, plain

_WAIT_SECONDS = 0.05


async def answer(app: App[Any], ask: Ask) -> Answer:
    """Make a call and return what it gave; nothing but a cancellation comes out as an error."""
    try:
        return Answer("ack", await _call(app, ask))
    except FunctionError as error:  # the mutation's own, planned failure: definite
        return Answer("refused", error.code, tuple((error.data or {}).get("ids", ())))
    except (OutcomeUnknown, PartiallyScheduled, TimeoutError) as error:
        return Answer("unknown", repr(error))
    except ActorSchedulerError as error:
        return Answer("refused", type(error).__name__)
    except Exception as error:  # nothing else may come out of the public API
        traceback.print_exc()
        return Answer("error", repr(error))


def new_jobs(ask: Ask, given: Answer) -> list[str]:
    """Return the ids that an answer acknowledged."""
    if given.verdict != "ack" or ask.do not in ("schedule", "many"):
        return []
    return [given.value] if ask.do == "schedule" else list(given.value)


async def _call(app: App[Any], ask: Ask) -> Any:
    scheduler = app.scheduler
    match ask.do:
        case "schedule":
            [body] = ask.bodies
            options: dict[str, Any] = {**options_of(body)}
            if ask.idem is not None:
                options["idempotency_key"] = ask.idem
            if ask.key is not None:
                options |= {"key": ask.key, "on_conflict": ask.on_conflict}
            call = call_of(body)
            if body.delay_us == 0:
                return await scheduler.run_now(call.path, call.args, **options)
            return await scheduler.run_after(body.delay_us / 1_000_000, call.path, call.args, **options)
        case "many":
            return await scheduler.run_many(calls_of(ask.bodies))
        case "live":
            caller = app if ask.idem is None else app.idempotent(ask.idem)
            return await caller.call(work, body=plain(ask.bodies[0]))
        case "cancel" if ask.target is not None:
            return await scheduler.cancel(ask.target, running=ask.running)
        case "cancel":
            return await scheduler.cancel(key=ask.target_key or "", running=ask.running)
        case "drop":
            return await scheduler.drop(ask.target or "")
        case "pool":
            return await scheduler.set_pool(POOL, ask.value)
        case "wait":
            return (await scheduler.wait(ask.target or "", timeout=_WAIT_SECONDS)).state
        case "get":
            job = await scheduler.get(ask.target or "")
            return job.state if job is not None else None
        case _:
            return await _call_about_crons(app, ask)


async def _call_about_crons(app: App[Any], ask: Ask) -> Any:
    name = ask.cron or ""
    match ask.do:
        case "register":
            every, target, args, options = crons.registered(name)
            return await app.crons.register(name, every, target, args, **options)
        case "unregister":
            return await app.crons.delete(name)
        case "reschedule":
            return await app.crons.update(name, schedule=Every(timedelta(microseconds=ask.value or 0)))
        case "pause":
            return await app.crons.pause(name)
        case "resume":
            return await app.crons.resume(name)
        case "run_cron":
            return await app.crons.run_now(name)
        case "dispatch":
            given = await app.crons.dispatch(name)
            return [given.status, given.job_id]
