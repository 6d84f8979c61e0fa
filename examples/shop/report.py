"""The audit: what the customers were told, against the shop's books and the payment provider's own records."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from examples.shop.gateway import Statement
from examples.shop.lines import Line, aligned
from examples.shop.report_ticks import CronEvidence

_NO_STATEMENT = Statement(attempts=0, charges=0, amount=0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Everything that is known when all has settled."""

    acknowledged: Mapping[str, int]  # the customers' keys, and the order number each got
    told: Mapping[int, bool]  # what those who canceled were told: in time, or too late
    books: Mapping[int, Mapping[str, Any]]  # the shop's own rows, by order
    statements: Mapping[int, Statement]  # the provider's
    resends: int
    failures: Mapping[str, int]  # jobs that failed, by cause
    kills: int
    down: Sequence[tuple[int, int]]  # in microseconds
    lateness: Sequence[Mapping[str, Any]]
    carts_filled: int = 0
    carts_left: int = 0
    crons: Sequence[CronEvidence] = ()


def audit(seen: Evidence) -> list[Line]:
    """Hold the three records against each other and return the lines of the table, complaints and all."""
    books, statements = seen.books, seen.statements
    placed = Counter(seen.acknowledged.values())
    paid = [order for order in placed if order in books and books[order]["status"] == "paid"]
    canceled = [order for order in placed if order in books and books[order]["status"] == "canceled"]
    in_time = {order for order, told in seen.told.items() if told}
    lost = [order for order in placed if order not in books or books[order]["status"] not in ("paid", "canceled")]
    doubled = [order for order, customers in placed.items() if customers > 1]
    unknown = [order for order in books if order not in placed]
    once = [order for order in paid if books[order]["charges"] == 1]
    twice = [
        order
        for order in books.keys() | statements.keys()
        if statements.get(order, _NO_STATEMENT).charges > 1 or (order in books and books[order]["charges"] > 1)
    ]
    misled = [order for order in placed if (order in in_time) != (order in canceled)]
    charged_canceled = [
        order for order in {*in_time, *canceled} if order in statements or (order in books and books[order]["charges"])
    ]
    booked = sum(row["charged"] for row in books.values())
    moved = sum(statement.amount for statement in statements.values())
    differing = [order for order in books.keys() | statements.keys() if not _agree(order, books, statements)]
    wrongly_reminded = [order for order, row in books.items() if row["reminders"] != (row["status"] == "paid")]
    attempts = sum(statement.attempts for statement in statements.values())
    errors, cut_off = seen.failures.get("error", 0), seen.failures.get("interrupted", 0)
    tries = f"{attempts:,} attempts: {errors} failed, {cut_off} cut off by a kill"
    return [
        Line("orders accepted", len(seen.acknowledged), None, f"{seen.resends:,} requests sent again"),
        Line("charged exactly once", len(once), len(placed) - len(canceled)),
        Line("canceled in time", len(canceled), len(in_time), f"{len(seen.told) - len(in_time)} came too late"),
        Line("lost", len(lost), 0, "accepted, but neither paid nor canceled"),
        Line("placed twice", len(doubled) + len(unknown), 0, "by a request that was sent again"),
        Line("charged twice", len(twice), 0, "in the books or at the gateway"),
        Line("canceled, yet charged", len(charged_canceled), 0),
        Line("told wrongly", len(misled), 0, "canceled or not, against what the customer was told"),
        Line("in the books (cents)", booked, moved),
        Line("at the gateway (cents)", moved, booked, tries),
        Line("books differ", len(differing), 0, "orders, between books and gateway"),
        Line("reminders written", sum(row["reminders"] for row in books.values()), len(paid)),
        Line("reminded wrongly", len(wrongly_reminded), 0, "paid and not reminded once, or reminded and not paid"),
        Line("carts not swept", seen.carts_left, 0, f"of {seen.carts_filled:,} that were filled and left"),
    ]


def _agree(order: int, books: Mapping[int, Mapping[str, Any]], statements: Mapping[int, Statement]) -> bool:
    statement = statements.get(order, _NO_STATEMENT)
    row = books.get(order)
    if row is None:
        return statement.charges == 0
    paid = row["amount"] if row["status"] == "paid" else 0
    return bool(row["charges"] == statement.charges and row["charged"] == statement.amount == paid)


def table(lines: Sequence[Line], seen: Evidence) -> str:
    """Return the table as text."""
    rows = [line.row for line in lines]
    rows.append(("kills (SIGKILL)", f"{seen.kills}", "", f"{len(seen.down)} outages"))
    if seen.down:
        outages = [(end - start) / 1e6 for start, end in seen.down]
        remark = f"median; longest {max(outages):.2f}; from the kill to the first answer, Python's start included"
        rows.append(("back after (s)", f"{statistics.median(outages):.2f}", "", remark))
    rows.extend(_late(row) for row in seen.lateness)
    return aligned(rows)


def _late(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    name = "late across kills (ms)" if row["waited_for_app"] else "late while up (ms)"
    what = "fell due, or waited, while the shop was down" if row["waited_for_app"] else "downtime excluded"
    remark = f"p50; p99 {row['p99_ms']:,.1f}; max {row['max_ms']:,.1f}; {row['jobs']:,} jobs, {what}"
    return name, f"{row['p50_ms']:,.1f}", "", remark
