"""The shop's recurring work on the virtual clock: digest, sweep, hours, and the customers' reminders."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from examples.shop.carts import SWEPT_AT_ONCE, fill_cart, sweep
from examples.shop.digests import OWNER, send
from examples.shop.settings import CART_LIFETIME, HOURS_CAUGHT_UP, HOURS_EVERY, SWEEP_EVERY
from examples.shop.subscriptions import remind
from runtime import AccessDenied
from runtime.testing import Harness
from tests.examples.opening import START, asgi_client, open_shop, order_tea

MOMENT = timedelta(microseconds=1)
PARIS = ZoneInfo("Europe/Paris")
NEW_YORK = ZoneInfo("America/New_York")


@asynccontextmanager
async def open_quiet_shop(folder: Path, start: datetime = START) -> AsyncIterator[Harness]:
    """Open the shop without what happens every five minutes, so that days pass quickly."""
    async with open_shop(folder, start=start) as shop:
        for cron in ("sweep", "hours"):
            await shop.crons.pause(cron, note="not what this test is about")
        yield shop


async def mails(shop: Harness, recipient: str) -> list[tuple[str, str]]:
    """Return what was written to somebody, and when, oldest first."""
    rows = read(shop, "SELECT written_at, subject FROM mails WHERE recipient = ? ORDER BY id", recipient)
    return [(row["written_at"], row["subject"]) for row in rows]


def read(shop: Harness, sql: str, *params: Any) -> list[dict[str, Any]]:
    """Read the shop's file as any other program could."""
    with closing(sqlite3.connect(shop.app._db)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql, params)]


async def skipped(shop: Harness, cron: str) -> list[tuple[str | None, int]]:
    return [(run.reason, run.skipped) for run in await shop.crons.runs(cron) if run.state == "skipped"]


# ---------------------------------------------------------------- the digest


@pytest.mark.parametrize(
    ("day", "hours"),
    [(datetime(2026, 3, 29, tzinfo=PARIS), 23), (datetime(2026, 10, 25, tzinfo=PARIS), 25)],
    ids=["spring", "autumn"],
)
async def test_the_digest_of_a_night_on_which_the_clock_changes(tmp_path: Path, day: datetime, hours: int) -> None:
    """It is sent at 08:00 in Paris on each morning, and counts exactly the 23 or 25 hours of the day before."""
    midnight, next_midnight = day.astimezone(UTC), (day + timedelta(days=1)).astimezone(UTC)
    assert next_midnight - midnight == timedelta(hours=hours)
    async with open_quiet_shop(tmp_path, midnight - timedelta(hours=1)) as shop:
        await shop.advance_to(midnight - MOMENT)
        await order_tea(shop)  # the day before
        for moment in (midnight, midnight + timedelta(hours=2), next_midnight - MOMENT):
            await shop.advance_to(moment)
            await order_tea(shop)
        await shop.advance_to(next_midnight)
        for _ in range(2):
            await order_tea(shop)  # the day after
        await shop.advance(days=1, hours=12)

        mornings = [(day + timedelta(days=ahead)).replace(hour=8).astimezone(UTC).isoformat() for ahead in range(3)]
        before, on, after = ((day + timedelta(days=ahead)).date() for ahead in (-1, 0, 1))
        assert await mails(shop, OWNER) == [
            (mornings[0], f"{before}: 1 orders, 6.00 EUR"),
            (mornings[1], f"{on}: 3 orders, 18.00 EUR"),
            (mornings[2], f"{after}: 2 orders, 12.00 EUR"),
        ]


async def test_after_an_outage_one_digest_covers_the_mornings_that_were_missed(tmp_path: Path) -> None:
    """Down over three mornings: one digest, late, over the days of all three; the two dropped ticks have a reason."""
    async with open_quiet_shop(tmp_path, datetime(2026, 5, 1, 6, tzinfo=UTC)) as shop:  # 08:00 in Paris
        await shop.advance(hours=1)
        await order_tea(shop)  # on the first
        await shop.advance(days=1, hours=1)
        await order_tea(shop)  # on the second
        await shop.restart(down_for=timedelta(days=3))

        assert await mails(shop, OWNER) == [
            ("2026-05-02T06:00:00+00:00", "2026-05-01: 1 orders, 6.00 EUR"),
            ("2026-05-05T08:00:00+00:00", "2026-05-02 to 2026-05-04: 1 orders, 6.00 EUR"),
        ]
        assert await skipped(shop, "daily digest") == [("policy", 2)]
        await shop.advance(days=1)
        assert (await mails(shop, OWNER))[2:] == [("2026-05-06T06:00:00+00:00", "2026-05-05: 0 orders, 0.00 EUR")]


async def test_a_digest_by_hand_is_of_the_day_asked_for(tmp_path: Path) -> None:
    """`run_now` takes the moment to stand in: its day is that of Paris. The app's own code may not send digests."""
    async with open_shop(tmp_path) as shop:
        await order_tea(shop)  # on the first of January
        await shop.crons.run_now("daily digest", scheduled_at=datetime(2026, 1, 2, 0, 30, tzinfo=PARIS))
        await shop.settle()
        assert await mails(shop, OWNER) == [("2026-01-01T00:00:00+00:00", "2026-01-01: 1 orders, 6.00 EUR")]
        with pytest.raises(AccessDenied):
            await shop.call(send)


# ---------------------------------------------------------------- the sweep and the hours


async def fill(shop: Harness, *customers: str) -> None:
    for customer in customers:
        await shop.call(fill_cart, email=f"{customer}@example.com", item="tea", quantity=1)


async def left(shop: Harness) -> list[str]:
    return [row["email"].partition("@")[0] for row in read(shop, "SELECT email FROM carts ORDER BY email")]


async def test_the_sweep_takes_carts_that_nobody_touched(tmp_path: Path) -> None:
    """A cart goes at the first sweep after its time; one that was touched or ordered meanwhile does not."""
    async with open_shop(tmp_path) as shop:
        await fill(shop, "ada", "bob", "eve")
        await shop.advance(SWEEP_EVERY)
        await fill(shop, "bob")
        await order_tea(shop)  # Ada's cart is an order now
        await shop.advance(CART_LIFETIME - SWEEP_EVERY - MOMENT)
        assert await left(shop) == ["bob", "eve"]
        await shop.advance(MOMENT)
        assert await left(shop) == ["bob"]
        await shop.advance(SWEEP_EVERY)
        assert await left(shop) == []


async def test_one_sweep_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more carts than one sweep takes, the oldest go first, and the next tick goes on."""
    assert SWEPT_AT_ONCE < 10_000
    monkeypatch.setattr("examples.shop.carts.SWEPT_AT_ONCE", 2)
    async with open_shop(tmp_path) as shop:
        await shop.advance(SWEEP_EVERY / 2)
        for customer in ("ada", "bob", "eve"):
            await fill(shop, customer)
            await shop.advance(MOMENT)
        await shop.advance(CART_LIFETIME + SWEEP_EVERY / 2)
        assert await left(shop) == ["eve"]
        assert [job.result for job in await shop.runs(sweep)][-1] == 2
        await shop.advance(SWEEP_EVERY)
        assert await left(shop) == []


async def test_an_outage_is_one_sweep_and_many_hours(tmp_path: Path) -> None:
    """After a night down the sweep runs once, as there is one shop to tidy; of the hours each is counted."""
    async with open_shop(tmp_path) as shop:
        await shop.advance(HOURS_EVERY / 2)
        await order_tea(shop)
        await fill(shop, "bob")

        await shop.restart(down_for=HOURS_EVERY * 10)

        assert await left(shop) == []
        missed = HOURS_EVERY * 10 // SWEEP_EVERY
        assert await skipped(shop, "sweep") == [("policy", missed - 1)]
        assert await skipped(shop, "hours") == []
        hours = read(shop, "SELECT tick, handled, skipped FROM ticks WHERE cron = 'hours' ORDER BY id")
        assert [datetime.fromisoformat(row["tick"]) for row in hours] == [START + HOURS_EVERY * k for k in range(11)]
        assert [row["handled"] for row in hours] == [0, 1, *[0] * 9]
        assert sum(row["skipped"] for row in hours) == 0


async def test_hours_beyond_the_cap_are_dropped_and_the_next_run_is_told(tmp_path: Path) -> None:
    """The newest are counted; the others are one row with a reason, and the oldest run knows their number."""
    async with open_shop(tmp_path) as shop:
        await shop.restart(down_for=HOURS_EVERY * (HOURS_CAUGHT_UP + 5))

        assert sum(count for _, count in await skipped(shop, "hours")) == 5
        hours = read(shop, "SELECT skipped FROM ticks WHERE cron = 'hours' ORDER BY id")
        assert [row["skipped"] for row in hours] == [0, 5, *[0] * (HOURS_CAUGHT_UP - 1)]


async def test_starting_again_and_again_runs_no_tick_twice(tmp_path: Path) -> None:
    """Twenty starts within one interval, killed each time: the ticks are the same as without."""
    async with open_shop(tmp_path) as shop:
        for _ in range(20):
            await shop.restart(down_for=SWEEP_EVERY / 10)
        ticks = Counter(row["tick"] for row in read(shop, "SELECT tick FROM ticks WHERE cron = 'sweep'"))
        assert list(ticks.values()) == [1, 1, 1]  # at the start, and after each whole interval


# ---------------------------------------------------------------- reminders


async def subscribe(email: str = "ada@example.com", **wanted: Any) -> dict[str, Any]:
    async with asgi_client() as http:
        answer = await http.put(f"/subscriptions/{email}", json={"item": "tea", **wanted})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def local(written: list[tuple[str, str]], zone: ZoneInfo) -> list[str]:
    return [f"{datetime.fromisoformat(moment).astimezone(zone):%m-%d %H:%M}" for moment, _ in written]


async def test_each_customer_is_reminded_at_their_own_hour(tmp_path: Path) -> None:
    """Two customers, two zones, two hours; each gets one mail a day, at that hour on their clock."""
    async with open_quiet_shop(tmp_path) as shop:
        answer = await subscribe(at="07:30", zone="America/New_York", times=3)
        assert (answer["times_left"], answer["next_at"]) == (3, "2026-01-01T12:30:00Z")
        await subscribe("bob@example.com", item="cake", at="23:00", zone="Asia/Tokyo")
        await shop.advance(days=2)

        ada, bob = await mails(shop, "ada@example.com"), await mails(shop, "bob@example.com")
        assert local(ada, NEW_YORK) == ["01-01 07:30", "01-02 07:30"]
        assert local(bob, ZoneInfo("Asia/Tokyo")) == ["01-01 23:00", "01-02 23:00"]
        assert {subject for _, subject in bob} == {"Time for your cake"}


@pytest.mark.parametrize(
    ("start", "at", "expected"),
    [
        (datetime(2026, 3, 7, 5, tzinfo=UTC), "02:30", ["03-07 02:30", "03-08 03:00", "03-09 02:30"]),
        (datetime(2026, 10, 31, 4, tzinfo=UTC), "01:30", ["10-31 01:30", "11-01 01:30", "11-02 01:30"]),
    ],
    ids=["spring", "autumn"],
)
async def test_one_reminder_a_day_where_the_clock_changes(
    tmp_path: Path, start: datetime, at: str, expected: list[str]
) -> None:
    """An hour that does not exist is caught right after the gap; one that comes twice is used once, the first time."""
    async with open_quiet_shop(tmp_path, start) as shop:
        await subscribe(at=at, zone="America/New_York")
        await shop.advance(days=3)
        written = await mails(shop, "ada@example.com")
        assert local(written, NEW_YORK) == expected
        assert datetime.fromisoformat(written[1][0]).astimezone(NEW_YORK).fold == 0


async def test_subscribing_again_changes_the_subscription(tmp_path: Path) -> None:
    """The same again changes nothing; another zone moves the reminder, and there is never more than one a day."""
    async with open_quiet_shop(tmp_path) as shop:
        first = await subscribe(at="08:00", zone="Europe/Paris")
        assert await subscribe(at="08:00", zone="Europe/Paris") == first
        await shop.advance(hours=12)

        moved = await subscribe(at="08:00", zone="America/New_York", times=5)

        assert (moved["id"], moved["times_left"]) == (first["id"], 5)
        assert moved["next_at"] == "2026-01-01T13:00:00Z"
        await shop.advance(hours=26)
        written = local(await mails(shop, "ada@example.com"), ZoneInfo("UTC"))
        assert written == ["01-01 07:00", "01-01 13:00", "01-02 13:00"]  # in Paris, then in New York
        assert [cron.name async for cron in shop.crons.list(prefix="reminder/")] == ["reminder/1"]


async def test_a_reminder_ends_itself_after_the_last_time(tmp_path: Path) -> None:
    """After its last run the cron is gone, by its own doing, and the subscription with it."""
    async with open_quiet_shop(tmp_path) as shop:
        await subscribe(times=2)
        await shop.advance(days=30)

        assert len(await mails(shop, "ada@example.com")) == 2
        assert [job.state for job in await shop.runs(remind)] == ["success", "success"]
        assert await shop.crons.get("reminder/1") is None
        async with asgi_client() as http:
            assert (await http.get("/subscriptions/ada@example.com")).status_code == 404
        assert (await subscribe())["id"] == 2


async def test_unsubscribing_ends_the_reminders(tmp_path: Path) -> None:
    """Nothing is written from then on. Asking again is answered, too."""
    async with open_quiet_shop(tmp_path) as shop, asgi_client() as http:
        await subscribe()
        await shop.advance(days=1)
        answers = [(await http.delete("/subscriptions/ada@example.com")).json() for _ in range(2)]
        await shop.advance(days=7)
        assert answers == [{"ended": True}, {"ended": False}]
        assert len(await mails(shop, "ada@example.com")) == 1
        assert await shop.crons.get("reminder/1") is None


async def test_reminders_survive_restarts_and_are_not_sent_hours_late(tmp_path: Path) -> None:
    """Down over one reminder: that one is dropped and recorded, not sent in the afternoon; the next ones come."""
    async with open_quiet_shop(tmp_path) as shop:
        await subscribe(at="08:00", zone="UTC", times=2)
        await shop.restart(down_for=timedelta(hours=15))
        assert await mails(shop, "ada@example.com") == []
        assert await skipped(shop, "reminder/1") == [("policy", 1)]
        await shop.advance(days=5)
        assert local(await mails(shop, "ada@example.com"), ZoneInfo("UTC")) == ["01-02 08:00", "01-03 08:00"]


@pytest.mark.parametrize("wrong", [{"zone": "Mars/Olympus"}, {"at": "24:00"}, {"times": 0}, {"item": "soup"}])
async def test_a_subscription_that_can_not_be_is_refused_and_leaves_nothing(
    tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """The client is told; neither a subscription nor a cron is there."""
    async with open_quiet_shop(tmp_path) as shop, asgi_client() as http:
        answer = await http.put("/subscriptions/ada@example.com", json={"item": "tea", **wrong})
        assert answer.status_code in (400, 422)
        assert (await http.get("/subscriptions/ada@example.com")).status_code == 404
        assert [cron.name async for cron in shop.crons.list(prefix="reminder/")] == []


async def test_ticks_are_shown_over_http(tmp_path: Path) -> None:
    """Both logs of a cron's ticks, as the demo reads them."""
    async with open_shop(tmp_path) as shop, asgi_client() as http:
        await shop.restart(down_for=SWEEP_EVERY * 3)
        logs = (await http.get("/stats/ticks/sweep")).json()
        assert [row["skipped"] for row in logs["noted"]] == [2, 0]
        assert [run["state"] for run in logs["runs"]] == ["success", "skipped", "success"]
