"""The shop of the examples: its functions on the virtual clock, its HTTP surface, and the demo on a small scale."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples.shop.demo import Plan, run_demo
from examples.shop.gateway import Statement, gateway, read_statements
from examples.shop.main import app
from examples.shop.orders import cancel_order, confirm, get_order
from examples.shop.payments import charge, collect, record_charge
from examples.shop.report import Evidence, audit
from examples.shop.report_ticks import audit_cron
from examples.shop.settings import CANCEL_WINDOW, REMIND_AFTER, RETRY_AFTER
from examples.shop.stats import lateness, summary
from runtime import Job
from runtime.testing import Harness, simulate
from tests.examples.opening import ScriptedGateway, asgi_client, open_shop, order_tea

MOMENT = timedelta(microseconds=1)


async def states(shop: Harness, fn: object) -> list[tuple[str, str | None]]:
    jobs: list[Job] = [job async for job in shop.scheduler.list(fn=fn)]  # type: ignore[arg-type]
    return [(job.state, job.cause) for job in reversed(jobs)]


async def test_an_order_is_charged_once_when_its_window_ends(tmp_path: Path) -> None:
    """Up to the last microsecond of the window nothing is charged; at its end the order is, once and in full."""
    async with open_shop(tmp_path) as shop:
        order_id = await order_tea(shop)
        await shop.advance(CANCEL_WINDOW - MOMENT)
        assert (await shop.call(get_order, order_id=order_id))["status"] == "placed"

        await shop.advance(MOMENT)

        order = await shop.call(get_order, order_id=order_id)
        assert (order["status"], order["charges"], order["amount"]) == ("paid", 1, 600)
        assert read_statements(tmp_path / "gateway.db") == {order_id: Statement(attempts=1, charges=1, amount=600)}
        assert await shop.pending(collect) == []  # nobody looks after a paid order


@settings(max_examples=15, deadline=None)
@given(script=st.lists(st.sampled_from(["fail", "lose the answer"]), max_size=5))
def test_however_often_the_gateway_fails_the_order_is_charged_once(
    tmp_path_factory: pytest.TempPathFactory, script: list[str]
) -> None:
    """Each failed attempt is followed by another, and all of them together are one charge and one entry."""
    folder = tmp_path_factory.mktemp("shop")

    async def scenario(shop: Harness) -> None:
        bank = ScriptedGateway(folder / "gateway.db", *script)
        shop.override(gateway, bank)
        order_id = await order_tea(shop)
        await shop.advance(CANCEL_WINDOW + RETRY_AFTER * 8 * len(script))
        order = await shop.call(get_order, order_id=order_id)
        assert (order["status"], order["charges"]) == ("paid", 1)
        assert await states(shop, charge) == [*[("failed", "error")] * len(script), ("success", None)]
        bank.close()

    simulate(app, scenario)
    assert read_statements(folder / "gateway.db") == {1: Statement(attempts=len(script) + 1, charges=1, amount=600)}


async def test_an_attempt_cut_off_by_a_kill_is_made_again(tmp_path: Path) -> None:
    """When a kill comes after the money has moved and before the books know, the order is still charged once."""
    async with open_shop(tmp_path, "hang") as shop:
        order_id = await order_tea(shop)
        advancing = asyncio.create_task(shop.advance(CANCEL_WINDOW))
        bank = shop.app._overrides[gateway]
        await bank.hanging.wait()
        advancing.cancel()
        await asyncio.wait([advancing])

        await shop.restart(down_for=RETRY_AFTER - MOMENT)
        assert await states(shop, charge) == [("failed", "interrupted")]
        assert (await shop.call(get_order, order_id=order_id))["charges"] == 0
        await shop.advance(MOMENT)

        assert await states(shop, charge) == [("failed", "interrupted"), ("success", None)]
        assert (await shop.call(get_order, order_id=order_id))["charges"] == 1
        assert read_statements(tmp_path / "gateway.db") == {order_id: Statement(attempts=2, charges=1, amount=600)}


async def test_two_attempts_that_both_succeed_are_one_entry(tmp_path: Path) -> None:
    """The second answer for an order finds it paid, and changes nothing."""
    async with open_shop(tmp_path) as shop:
        order_id = await order_tea(shop)
        await shop.advance(CANCEL_WINDOW)

        booked = await shop.call(record_charge, order_id=order_id, amount=600, gateway_id="ch_1")

        assert booked is False
        assert (await shop.call(get_order, order_id=order_id))["charges"] == 1
        await shop.call(charge, order_id=order_id)  # an attempt that is late does not even ask
        assert read_statements(tmp_path / "gateway.db")[order_id].attempts == 1


@pytest.mark.parametrize(("early", "in_time"), [(MOMENT, True), (timedelta(0), False)])
async def test_cancel_and_timer_have_exactly_one_winner(tmp_path: Path, early: timedelta, in_time: bool) -> None:
    """A microsecond before the window ends a cancel is in time; from then on it is too late. Asking again agrees."""
    async with open_shop(tmp_path) as shop:
        order_id = await order_tea(shop)
        await shop.advance(CANCEL_WINDOW - early)

        answers = [await shop.call(cancel_order, order_id=order_id) for _ in range(2)]
        await shop.advance(days=1)

        assert answers == [in_time, in_time]
        order = await shop.call(get_order, order_id=order_id)
        assert (order["status"], order["charges"]) == (("canceled", 0) if in_time else ("paid", 1))
        assert await states(shop, confirm) == [("canceled", None) if in_time else ("success", None)]
        assert len(read_statements(tmp_path / "gateway.db")) == (0 if in_time else 1)


async def test_a_reminder_is_written_days_later_and_once(tmp_path: Path) -> None:
    """The reminder is due at its time, not before, and a kill meanwhile neither loses nor doubles it."""
    async with open_shop(tmp_path) as shop:
        await shop.crons.pause("sweep")  # days pass more quickly without
        order_id = await order_tea(shop)
        await shop.advance(CANCEL_WINDOW)
        await shop.advance(REMIND_AFTER - MOMENT)
        assert (await shop.call(get_order, order_id=order_id))["reminders"] == 0

        await shop.restart(down_for=timedelta(days=1))
        await shop.advance(days=3)

        assert (await shop.call(get_order, order_id=order_id))["reminders"] == 1


async def test_lateness_sets_jobs_apart_that_waited_for_the_app(tmp_path: Path) -> None:
    """A job that fell due while the app was down is as late as the outage was, and is counted apart."""
    async with open_shop(tmp_path) as shop:
        await order_tea(shop)
        down_at_us = shop.clock.now_us()
        await shop.restart(down_for=CANCEL_WINDOW + timedelta(seconds=5))
        up_at_us = shop.clock.now_us()

        rows = await shop.call(lateness, down=[(down_at_us, up_at_us)])

        late = {row["waited_for_app"]: (row["jobs"], row["p50_ms"], row["p99_ms"], row["max_ms"]) for row in rows}
        assert late == {0: (1, 0.0, 0.0, 0.0), 1: (1, 5000.0, 5000.0, 5000.0)}


async def test_a_request_that_is_sent_again_is_one_order(tmp_path: Path) -> None:
    """Over HTTP: the same key gives the first answer; with another order it is refused; without a key it is new."""
    async with open_shop(tmp_path) as shop, asgi_client() as http:
        tea, cake = ({"email": "ada@example.com", "item": item} for item in ("tea", "cake"))
        key = {"idempotency-key": "one"}

        answers = [await http.post("/orders", json=tea, headers=key) for _ in range(3)]
        refused = await http.post("/orders", json=cake, headers=key)
        another = await http.post("/orders", json=tea)

        assert [(answer.status_code, answer.json()) for answer in answers] == [(201, {"order_id": 1})] * 3
        assert (refused.status_code, refused.json()["code"]) == (422, "KEY_CONFLICT")
        assert another.json() == {"order_id": 2}
        assert (await shop.call(summary))["orders"] == {"placed": 2}


async def test_http_tells_what_is_wrong(tmp_path: Path) -> None:
    """Bad requests are the client's fault, and an order that does not exist is not found."""
    async with open_shop(tmp_path), asgi_client() as http:
        wrong = {"email": "ada@example.com", "item": "tea", "quantity": 0}
        assert (await http.post("/orders", json=wrong)).status_code == 422
        assert (await http.get("/orders/7")).json() == {"code": "NOT_FOUND", "message": "there is no order 7"}
        assert (await http.post("/orders/7/cancel")).status_code == 404
        assert (await http.get(f"/orders/{1 << 63}")).status_code == 422
        assert (await http.get("/stats/lateness?down=now")).status_code == 422
        for path in ("/", "/health", "/stats", "/stats/audit", "/stats/lateness"):
            assert (await http.get(path)).status_code == 200
    async with asgi_client() as http:
        assert (await http.get("/orders/7")).status_code == 503  # the app is not running: send it again


# ---------------------------------------------------------------- the demo


def evidence() -> Evidence:
    """Return what is seen after a day on which nothing went wrong: one order paid, one canceled."""
    paid = {"status": "paid", "amount": 600, "charges": 1, "charged": 600, "reminders": 1}
    canceled = {"status": "canceled", "amount": 450, "charges": 0, "charged": 0, "reminders": 0}
    statements = {1: Statement(attempts=2, charges=1, amount=600)}
    return Evidence({"a": 1, "b": 2}, {2: True}, {1: paid, 2: canceled}, statements, 0, {}, 0, [], [])


def complaints(seen: Evidence) -> set[str]:
    return {line.name for line in audit(seen) if not line.holds}


def test_the_audit_has_nothing_to_say_about_a_good_day() -> None:
    """Records that agree give no complaint."""
    assert complaints(evidence()) == set()


@pytest.mark.parametrize(
    ("complaint", "books"),
    [
        ("lost", {}),
        ("lost", {"status": "confirmed", "charges": 0, "charged": 0}),
        ("charged exactly once", {"charges": 0}),
        ("charged twice", {"charges": 2, "charged": 1200}),
        ("books differ", {"charged": 599}),
        ("told wrongly", {"status": "canceled"}),
        ("canceled, yet charged", {"status": "canceled"}),
        ("reminded wrongly", {"reminders": 0}),
        ("reminded wrongly", {"reminders": 2}),
    ],
)
def test_the_audit_sees_what_went_wrong_in_the_books(complaint: str, books: dict[str, object]) -> None:
    """Whatever happens to one order in the shop's books, the audit complains about it by name."""
    day = evidence()
    rows = {**day.books, 1: {**day.books[1], **books}}
    if not books:
        del rows[1]
    assert complaint in complaints(replace(day, books=rows))


@pytest.mark.parametrize(
    ("complaint", "changed"),
    [
        ("placed twice", {"acknowledged": {"a": 1, "b": 2, "c": 1}}),
        ("placed twice", {"acknowledged": {"b": 2}}),
        ("charged twice", {"statements": {1: Statement(2, 2, 1200)}}),
        ("books differ", {"statements": {}}),
        ("canceled, yet charged", {"statements": {1: Statement(1, 1, 600), 2: Statement(1, 1, 450)}}),
        ("told wrongly", {"told": {}}),
        ("told wrongly", {"told": {1: True, 2: True}}),
        ("carts not swept", {"carts_left": 1}),
    ],
)
def test_the_audit_sees_what_went_wrong_elsewhere(complaint: str, changed: dict[str, object]) -> None:
    """A customer's or the provider's record that does not fit the books is a complaint by name."""
    assert complaint in complaints(replace(evidence(), **changed))  # type: ignore[arg-type]


async def test_the_demo_kills_a_real_shop_and_loses_nothing() -> None:
    """Two real kills in the middle of real HTTP orders: nothing is lost or doubled, and every tick accounted for.

    The second outage is so long that each cron misses more ticks than it may catch up.
    """
    plan = Plan(
        "test", orders=80, per_second=160, kills=2, cancel_seconds=0.2, retry_seconds=0.3, remind_seconds=0.2,
        caught_up=1, outage_seconds=2.1, deadline_seconds=30,
    )  # fmt: skip

    seen = await run_demo(plan)

    lines = [*audit(seen), *(line for cron in seen.crons for line in audit_cron(cron))]
    assert [line for line in lines if not line.holds] == []
    assert (len(seen.acknowledged), seen.kills, len(seen.down), len(seen.crons)) == (80, 2, 2, 2)
    for cron in seen.crons:
        counts = {line.name: line.count for line in audit_cron(cron)}
        assert min(counts["caught up after a kill"], counts["skipped with a reason"]) >= 1
