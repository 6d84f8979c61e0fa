"""Kill a busy shop with SIGKILL, again and again, and count what was lost: `python -m examples.shop.demo`.

A crowd in a second process sends orders over real HTTP and cancels some; the shop is killed at random moments, now and
then while it is still coming back, and started again.  Meanwhile two crons tick every second, and after the last kill
the shop stays down so long that they miss more ticks than their rules catch up.  When all has settled, the customers'
own record is held against the shop's books and the payment provider's records, and the ticks there should have been
against those that ran.  The exit code is 1 if a single order was lost or charged twice, or a single tick is
unaccounted for or ran twice, and 2 if the demo could not be carried out.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import secrets
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.shop.gateway import read_statements
from examples.shop.processes import Customers, DemoError, Shop
from examples.shop.report import Evidence, audit, table
from examples.shop.report_ticks import CronEvidence, audit_cron, cron_table

_AUDIT_PAGE = 1_000
_TICKS_MAX = 1_000  # that the shop shows of one cron
_PATIENCE_SECONDS = 5  # for the last ticks to have run


@dataclass(frozen=True)
class Plan:
    """How much of everything. The seed decides at which moments the shop is killed, and who buys what."""

    seed: str
    orders: int = 2_500
    per_second: float = 200
    kills: int = 6
    cancel_seconds: float = 1.0
    retry_seconds: float = 0.4
    remind_seconds: float = 1.0
    tick_seconds: float = 1.0
    caught_up: int = 3  # missed ticks of the cron that catches up one by one, at most
    outage_seconds: float = 4.0  # the last one
    deadline_seconds: float = 150

    def settings(self) -> dict[str, str]:
        """Return the shop's settings: days become moments, and the gateway is worse than usual."""
        return {
            "SHOP_CANCEL_SECONDS": str(self.cancel_seconds),
            "SHOP_RETRY_SECONDS": str(self.retry_seconds),
            "SHOP_REMIND_SECONDS": str(self.remind_seconds),
            "SHOP_CART_SECONDS": str(self.tick_seconds),
            "SHOP_SWEEP_SECONDS": str(self.tick_seconds),
            "SHOP_HOUR_SECONDS": str(self.tick_seconds),
            "SHOP_HOURS_CAUGHT_UP": str(self.caught_up),
            "SHOP_GATEWAY_FAILURES": "0.1",
            "SHOP_GATEWAY_LATENCY_SECONDS": "0.06",
        }

    def crons(self) -> dict[str, str]:
        """Return the crons that are audited, and what each does about missed ticks."""
        return {
            "sweep": 'missed ticks: only the newest runs ("latest")',
            "hours": f'missed ticks: each runs ("all"), the newest {self.caught_up} at most',
        }


async def run_demo(plan: Plan) -> Evidence:
    """Carry the plan out, and return what is to be audited.

    Raises DemoError when that is not possible, or takes longer than the plan allows.  Leaves no process and no file.
    """
    with tempfile.TemporaryDirectory(prefix="shop-demo-") as name:
        folder = Path(name)
        shop, customers = Shop(folder, plan.settings()), Customers()
        scenario = asyncio.create_task(_scenario(plan, shop, customers, folder))
        try:
            waited_for: set[asyncio.Future[Any]] = {scenario, shop.crashed}
            await asyncio.wait(waited_for, timeout=plan.deadline_seconds, return_when=asyncio.FIRST_COMPLETED)
            if shop.crashed.done():
                shop.crashed.result()
            if not scenario.done():
                raise DemoError(_overdue(plan, shop, customers))
            seen = scenario.result()
        finally:
            scenario.cancel()
            await asyncio.wait([scenario])
            await customers.close()
            await shop.close(grace_seconds=0 if scenario.cancelled() else 10)
    return seen


def _overdue(plan: Plan, shop: Shop, customers: Customers) -> str:
    return (
        f"not done after {plan.deadline_seconds:g} s: {len(customers.orders)} of {plan.orders} orders accepted, "
        f"{shop.kills} of {plan.kills} kills. The shop's log ends with:\n{shop.log_tail()}"
    )


async def _scenario(plan: Plan, shop: Shop, customers: Customers, folder: Path) -> Evidence:
    await shop.start()
    await shop.ready()
    await customers.start(
        "--url", shop.url, "--orders", str(plan.orders), "--per-second", str(plan.per_second),
        "--cancel-seconds", str(plan.cancel_seconds), "--seed", plan.seed,
    )  # fmt: skip
    await _kill_again_and_again(plan, shop, customers)
    await customers.finished()
    _say(f"all {len(customers.orders):,} orders are accepted; waiting for the jobs that are left")
    await _settled(shop)
    crons = await _read_ticks(plan, shop)
    books = await _read_books(shop)
    totals = await shop.get("/stats")
    spans = "&".join(f"down={start}-{end}" for start, end in shop.down)
    return Evidence(
        acknowledged=customers.orders,
        told=customers.canceled,
        books=books,
        statements=read_statements(folder / "shop-gateway.db"),
        resends=customers.resends,
        failures=totals["failures"],
        kills=shop.kills,
        down=shop.down,
        lateness=await shop.get(f"/stats/lateness?{spans}"),
        carts_filled=customers.carts,
        carts_left=totals["carts"],
        crons=crons,
    )


async def _kill_again_and_again(plan: Plan, shop: Shop, customers: Customers) -> None:
    """Kill the shop at random points of the load; every third kill comes while it is still starting again."""
    chance = random.Random(plan.seed)
    points = iter(sorted(chance.uniform(0.05, 0.9) for _ in range(plan.kills - plan.kills // 3)))
    for number in range(1, plan.kills + 1):
        if number % 3 == 0:
            await asyncio.sleep(chance.uniform(0.1, 0.8))
        else:
            await shop.ready()
            await customers.placed(round(next(points) * plan.orders))
            await asyncio.sleep(chance.uniform(0, 0.1))  # not always right after an answer
        await shop.kill()
        _say(f"kill {number} of {plan.kills}, after {len(customers.orders):,} orders")
        if number == plan.kills:
            _say(f"down for {plan.outage_seconds:g} s now: more ticks are missed than will be caught up")
            await asyncio.sleep(plan.outage_seconds)
        await shop.start()
    await shop.ready()


async def _settled(shop: Shop) -> None:
    """Wait until no job is pending or running, and for a little while until no cart is left."""
    patience_ends = math.inf
    while True:
        totals = await shop.get("/stats")
        jobs = totals["jobs"]
        if not jobs.get("pending") and not jobs.get("in_progress"):
            patience_ends = min(patience_ends, time.monotonic() + _PATIENCE_SECONDS)
            if not totals["carts"] or time.monotonic() > patience_ends:
                return
        await asyncio.sleep(0.1)


async def _read_ticks(plan: Plan, shop: Shop) -> list[CronEvidence]:
    """Return the evidence on each cron's ticks up to now. The last of them get a little time to run."""
    assert shop.opened is not None
    until_us = time.time_ns() // 1_000
    patience_ends = time.monotonic() + _PATIENCE_SECONDS
    found: list[CronEvidence] = []
    for cron, rule in plan.crons().items():
        while True:
            logs = await shop.get(f"/stats/ticks/{cron}")
            if len(logs["runs"]) >= _TICKS_MAX:
                msg = f"too long a demo: the shop shows no more than {_TICKS_MAX} ticks of {cron}"
                raise DemoError(msg)
            evidence = CronEvidence(
                cron, rule, round(plan.tick_seconds * 1e6), shop.opened, until_us, logs["noted"], logs["runs"],
                shop.down, skipped_least=1,
            )  # fmt: skip
            if all(line.holds for line in audit_cron(evidence)) or time.monotonic() > patience_ends:
                break
            await asyncio.sleep(0.1)
        found.append(evidence)
    return found


async def _read_books(shop: Shop) -> dict[int, dict[str, object]]:
    books: dict[int, dict[str, object]] = {}
    last = 0
    while page := await shop.get(f"/stats/audit?after={last}&limit={_AUDIT_PAGE}"):
        books.update((row["id"], row) for row in page)
        last = page[-1]["id"]
    return books


def _say(text: str) -> None:
    print(f"  {text}", flush=True)


def _plan(arguments: Sequence[str] | None) -> Plan:
    parser = argparse.ArgumentParser(description="Kill a busy shop with SIGKILL, again and again; count what was lost.")
    parser.add_argument(
        "--seed", default=secrets.token_hex(4), help="decides when the shop is killed (default: random)"
    )
    parser.add_argument("--orders", type=int, default=Plan.orders)
    parser.add_argument("--per-second", type=float, default=Plan.per_second)
    parser.add_argument("--kills", type=int, default=Plan.kills)
    parser.add_argument("--deadline", type=float, default=Plan.deadline_seconds, help="seconds")
    given = parser.parse_args(arguments)
    return Plan(given.seed, given.orders, given.per_second, given.kills, deadline_seconds=given.deadline)


async def main(plan: Plan) -> int:
    """Run the demo, print its table and its verdict, and return the exit code."""
    began = time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    for ending in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C does: end the processes, remove the files
        asyncio.get_running_loop().add_signal_handler(ending, task.cancel)
    print(f"{plan.orders:,} orders, {plan.kills} kills, seed {plan.seed}", flush=True)
    try:
        seen = await run_demo(plan)
    except DemoError as error:
        print(f"the demo failed: {error}", file=sys.stderr)
        return 2
    lines = audit(seen)
    wrong = [line.name for line in lines if not line.holds]
    print(f"\n{table(lines, seen)}\n")
    for cron in seen.crons:
        account = audit_cron(cron)
        wrong += [f"{cron.cron}: {line.name}" for line in account if not line.holds]
        print(f"{cron_table(account, cron)}\n")
    verdict = (
        f"WRONG: {', '.join(wrong)}"
        if wrong
        else "nothing was lost, nothing was done twice, every tick is accounted for"
    )
    print(f"{verdict} (seed {plan.seed}, {time.monotonic() - began:.0f} s)")
    return 1 if wrong else 0


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(_plan(None))))
    except (KeyboardInterrupt, asyncio.CancelledError):
        print("stopped", file=sys.stderr)
        sys.exit(130)  # as a shell reports it: neither a loss nor a failure
