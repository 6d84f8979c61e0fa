"""The simulated clients: each sends one call after the other, and waits as its seed says."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from tests.proof.history import Ask, plain
from tests.simulation.functions import act, call_of, calls_of, count, options_of, work
from tests.simulation.loop import pass_time
from tests.simulation.workload import Workload

if TYPE_CHECKING:
    from tests.simulation.world import World

_IMPATIENT: Final = 0.04  # of the calls are given up by their caller after a moment


class Clients:
    """All clients of one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._targets: list[str] = []

    def linger_us(self) -> int:
        """Return how long a life goes on after its last call."""
        world = self._world
        return Workload(world.options, world.rng, "", []).pause_us() * 2

    async def live(self, life: int) -> None:
        """Send everything that one life asks for."""
        world = self._world
        waiting = [self._client(f"{life}c{at}") for at in range(world.options.clients)]
        if life == 0:
            waiting.append(self._bulk("0", world.options.bulk))
        if life:
            waiting.append(self.resend())
        await asyncio.gather(*waiting)

    async def _client(self, prefix: str) -> None:
        options = self._world.options
        rng = random.Random(f"client {options.seed} {prefix}")
        workload = Workload(options, rng, prefix, self._targets)
        for _ in range(options.calls):
            for ask in workload.next():
                await self._send(ask, rng.random() < _IMPATIENT)
            await pass_time(workload.pause_us())

    async def live_on(self) -> None:
        """Send what the last life asks for, in which nothing fails any more."""
        await self.resend()
        await self._bulk("z", self._world.options.bulk_at_last)

    async def _bulk(self, prefix: str, number: int) -> None:
        options = self._world.options
        rng = random.Random(f"bulk {options.seed} {prefix}")
        for ask in Workload(options, rng, prefix, []).bulk(number):
            await self._send(ask, impatient=False)

    async def resend(self) -> None:
        """Send again, unchanged, what no answer came to, and some to which one came: it may be lost on the way."""
        world = self._world
        again = world.history.unacknowledged()
        again += [sent[0].ask for sent in world.history.sent.values() if sent[0].ask.idem and world.rng.random() < 0.05]
        for ask in again:
            await self._send(ask, impatient=False)

    def _aimed(self, ask: Ask) -> Ask:
        """Return the call with the id that "@op" stands for: that of the job which an earlier call scheduled."""
        if ask.target is not None and ask.target.startswith("@"):
            return replace(ask, target=self._id_of(ask.target[1:]) or f"{0:032x}")
        if ask.bodies and (ask.bodies[0].cancel or "").startswith("@"):
            return replace(ask, bodies=(replace(ask.bodies[0], cancel=self._id_of(ask.bodies[0].cancel[1:])),))
        return ask

    def _id_of(self, op: str) -> str | None:
        acks = self._world.history.acks(op)
        return acks[0] if acks else None

    async def _send(self, ask: Ask, impatient: bool) -> None:
        if ask.after_us:
            await pass_time(ask.after_us)
        ask = self._aimed(ask)
        if impatient:
            patience = self._world.rng.choice((0, 0.0005, 1, 30))
            value = await self._world.send(ask, lambda ask: asyncio.wait_for(self._call(ask), patience))
        else:
            value = await self._world.send(ask, self._call)
        if value is not None and ask.do in ("schedule", "many"):
            self._targets.extend([value] if ask.do == "schedule" else value[:3])

    async def _call(self, ask: Ask) -> Any:
        self._world.calling(ask.op)
        app = self._world.app
        scheduler = app.scheduler
        match ask.do:
            case "schedule":
                options: dict[str, Any] = {"idempotency_key": ask.idem} if ask.idem is not None else {}
                if ask.key is not None:
                    options |= {"key": ask.key, "on_conflict": ask.on_conflict}
                [body] = ask.bodies
                call = call_of(body)
                options |= options_of(body)
                return await scheduler.run_after(body.delay_us / 1_000_000, call.path, call.args, **options)
            case "many":
                return await scheduler.run_many(calls_of(ask.bodies))
            case "live":
                caller: Any = app if ask.idem is None else app.idempotent(ask.idem)
                return await caller.call(work, body=plain(ask.bodies[0]))
            case "act":
                return await app.call(act, body=plain(ask.bodies[0]))
            case "cancel" if ask.target is not None:
                return await scheduler.cancel(ask.target, running=ask.running)
            case "cancel":
                return await scheduler.cancel(key=ask.target_key or "")
            case "retry":
                return await scheduler.retry(ask.target or "")
            case "get":
                job = await scheduler.get(ask.target or "")
                return job.state if job is not None else None
            case "pause":
                await scheduler.pause("to see whether anything starts")
                self._world.paused_at_us = self._world.clock.now_us()
                return True
            case "resume":
                self._world.paused_at_us = None
                await scheduler.resume()
                return True
            case "pool":
                await scheduler.set_pool("pool", ask.limit)
                return True
            case "count":
                return await app.call(count)
