"""What an operator wants to know. Queries read the shop's tables and the scheduler's `_scheduled_functions` alike."""

from __future__ import annotations

from typing import Any

from runtime import Namespace, QueryCtx

stats = Namespace("stats")


@stats.query
async def summary(ctx: QueryCtx) -> dict[str, Any]:
    """Return how many orders and jobs there are in each state, from one snapshot."""
    orders = await ctx.db.fetch_all("SELECT status, count(*) AS count FROM orders GROUP BY status")
    jobs = await ctx.db.fetch_all("SELECT state, count(*) AS count FROM _scheduled_functions GROUP BY state")
    causes = await ctx.db.fetch_all(
        "SELECT cause, count(*) AS count FROM _scheduled_functions WHERE state = 'failed' GROUP BY cause"
    )
    return {
        "orders": {row["status"]: row["count"] for row in orders},
        "charges_booked": await ctx.db.fetch_value("SELECT count(*) FROM charges"),
        "reminders_written": await ctx.db.fetch_value("SELECT count(*) FROM outbox"),
        "mails_written": await ctx.db.fetch_value("SELECT count(*) FROM mails"),
        "carts": await ctx.db.fetch_value("SELECT count(*) FROM carts"),
        "jobs": {row["state"]: row["count"] for row in jobs},
        "failures": {row["cause"]: row["count"] for row in causes},
    }


@stats.query
async def audit(ctx: QueryCtx, *, after: int, limit: int) -> list[dict[str, Any]]:
    """Return what the books say about the `limit` orders after number `after`."""
    rows = await ctx.db.fetch_all(
        """
        SELECT id, status, amount,
            (SELECT count(*) FROM charges WHERE order_id = orders.id) AS charges,
            (SELECT coalesce(sum(amount), 0) FROM charges WHERE order_id = orders.id) AS charged,
            (SELECT count(*) FROM outbox WHERE order_id = orders.id) AS reminders
        FROM orders WHERE id > ? ORDER BY id LIMIT ?
        """,
        [after, limit],
    )
    return [dict(row) for row in rows]


@stats.query
async def noted_ticks(ctx: QueryCtx, *, cron: str, limit: int) -> list[dict[str, Any]]:
    """Return the newest ticks of a cron that the shop itself has written down."""
    rows = await ctx.db.fetch_all(
        "SELECT tick, occurrence_id, skipped, handled FROM ticks WHERE cron = ? ORDER BY id DESC LIMIT ?", [cron, limit]
    )
    return [dict(row) for row in rows]


@stats.query
async def lateness(ctx: QueryCtx, *, down: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """Return how late jobs started, in milliseconds: apart for those that had to wait for the app to come back.

    `down` are spans of time, in microseconds since the epoch, in which the app was known not to run.
    """
    spans = [(0, 0), *down]  # VALUES takes at least one
    # An order that is placed leaves a row, too, to answer resends; but it was called, not scheduled.  A tick's lag is
    # told by `app.crons.runs`.
    rows = await ctx.db.fetch_all(
        f"""
        WITH down (start_us, end_us) AS (
            VALUES {", ".join("(?, ?)" for _ in spans)}
        ), starts AS (
            SELECT (started_time_us - scheduled_time_us) / 1000.0 AS late_ms,
                EXISTS (
                    SELECT 1 FROM down WHERE scheduled_time_us < end_us AND started_time_us > start_us
                ) AS waited_for_app
            FROM _scheduled_functions
            WHERE started_time_us IS NOT NULL AND name <> 'orders:place_order' AND cron IS NULL
        ), ranked AS (
            SELECT late_ms, waited_for_app,
                row_number() OVER (PARTITION BY waited_for_app ORDER BY late_ms) AS place,
                count(*) OVER (PARTITION BY waited_for_app) AS jobs
            FROM starts
        )
        SELECT waited_for_app, jobs, max(late_ms) AS max_ms,
            min(CASE WHEN place >= 0.50 * jobs THEN late_ms END) AS p50_ms,
            min(CASE WHEN place >= 0.99 * jobs THEN late_ms END) AS p99_ms
        FROM ranked GROUP BY waited_for_app ORDER BY waited_for_app
        """,  # noqa: S608 - placeholders are put in, never values
        [moment for span in spans for moment in span],
    )
    return [dict(row) for row in rows]
