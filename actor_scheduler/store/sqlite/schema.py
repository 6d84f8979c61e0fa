"""The scheduler's own tables, and the numbered steps that lead to them. Forward only; a released step is frozen."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

from actor_scheduler.errors import SchemaError
from actor_scheduler.store.sqlite.fence import INNER_VIEW, SYSTEM_VIEW, ours

if TYPE_CHECKING:
    import sqlite3

APPLICATION_ID: Final = 0x41435348  # "ACSH", in the file's header: whose file this is

# Times are microseconds since the epoch, UTC. `scheduled_at_us` is what was asked; `fire_at_us` when the next attempt
# may start. `seq` is the order of acceptance and is never reused. Nothing writes `meta` yet: it is here because adding
# a column to a large table later is dear.
_STEP_1: Final = (
    """CREATE TABLE _scheduler_meta (
        name TEXT PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE _scheduler_jobs (
        seq INTEGER PRIMARY KEY,
        nonce INTEGER NOT NULL,
        path TEXT NOT NULL,
        kind TEXT NOT NULL,
        queue TEXT NOT NULL,
        state TEXT NOT NULL DEFAULT 'pending',
        fire_at_us INTEGER NOT NULL,
        scheduled_at_us INTEGER NOT NULL,
        created_at_us INTEGER NOT NULL,
        args BLOB NOT NULL,
        attempt INTEGER NOT NULL DEFAULT 0,
        deaths INTEGER NOT NULL DEFAULT 0,
        boot INTEGER,
        started_at_us INTEGER,
        completed_at_us INTEGER,
        key TEXT,
        idempotency_key TEXT,
        occurrence_id TEXT,
        parent_id TEXT,
        lane TEXT,
        priority INTEGER NOT NULL DEFAULT 0,
        cause TEXT,
        error TEXT,
        error_code TEXT,
        error_data BLOB,
        traceback TEXT,
        result BLOB,
        result_truncated INTEGER NOT NULL DEFAULT 0,
        meta BLOB
    ) STRICT""",
    "CREATE INDEX _scheduler_jobs_due ON _scheduler_jobs (queue, fire_at_us, seq) WHERE state = 'pending'",
    "CREATE INDEX _scheduler_jobs_running ON _scheduler_jobs (seq) WHERE state = 'in_progress'",
    "CREATE INDEX _scheduler_jobs_failed ON _scheduler_jobs (seq) WHERE state = 'failed'",
    """CREATE UNIQUE INDEX _scheduler_jobs_key ON _scheduler_jobs (key)
        WHERE key IS NOT NULL AND state IN ('pending', 'in_progress')""",
    """CREATE UNIQUE INDEX _scheduler_jobs_idempotency_key ON _scheduler_jobs (idempotency_key)
        WHERE idempotency_key IS NOT NULL""",
    """CREATE TABLE _scheduler_attempts (
        job_seq INTEGER NOT NULL,
        attempt INTEGER NOT NULL,
        boot INTEGER NOT NULL,
        started_at_us INTEGER NOT NULL,
        ended_at_us INTEGER,
        cause TEXT,
        error TEXT,
        PRIMARY KEY (job_seq, attempt)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE _scheduler_schema_steps (
        number INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        applied_at_us INTEGER NOT NULL
    ) STRICT""",
)

# `retry` and `timeout_us` are a job's own, where it has them; `chain` counts the jobs in a row that were each scheduled
# for now by the one before; `canceling`: asked to be canceled while it ran. A queue whose name begins with '~' is no
# queue: its job waits for its turn in a lane, and for a place in the queue that the rest of the name says.
_STEP_2: Final = (
    "ALTER TABLE _scheduler_jobs ADD COLUMN retry BLOB",
    "ALTER TABLE _scheduler_jobs ADD COLUMN timeout_us INTEGER",
    "ALTER TABLE _scheduler_jobs ADD COLUMN chain INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE _scheduler_jobs ADD COLUMN canceling INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE _scheduler_jobs ADD COLUMN prune_at_us INTEGER",
    # Seven days after completion, as for every job that ends from now on. A moment that no calendar has is damage: such
    # a job stays until somebody drops it.
    """UPDATE _scheduler_jobs SET prune_at_us = completed_at_us + 604800000000
        WHERE state IN ('success', 'failed', 'canceled') AND completed_at_us BETWEEN 0 AND 253402300799000000""",
    "CREATE INDEX _scheduler_jobs_prune ON _scheduler_jobs (prune_at_us) WHERE prune_at_us IS NOT NULL",
    """CREATE INDEX _scheduler_jobs_lane ON _scheduler_jobs (lane, attempt = 0, fire_at_us, seq)
        WHERE lane IS NOT NULL AND state IN ('pending', 'in_progress')""",
    """CREATE INDEX _scheduler_jobs_lane_head ON _scheduler_jobs (lane)
        WHERE lane IS NOT NULL AND state = 'pending' AND queue < '~'""",
    """CREATE INDEX _scheduler_jobs_rate ON _scheduler_jobs (queue, started_at_us)
        WHERE queue >= 'rate:' AND queue < 'rate;' AND started_at_us IS NOT NULL""",
)

# A cron's numbers are of the same series as the jobs'. Every tick up to `watermark_us` is accounted for: it has a job
# with its `tick_us`, or lies in a stretch of `_scheduler_skips`. `fire_at_us` is when the next one fires, `tick_us`
# without its jitter; NULL when none comes by itself. `skipped`: dropped ticks that no run has been told of. `zone` is
# that of the schedule, where it has one besides UTC. A job by hand has a `cron`, and no `tick_us`.
_STEP_3: Final = (
    "ALTER TABLE _scheduler_jobs ADD COLUMN cron TEXT",
    "ALTER TABLE _scheduler_jobs ADD COLUMN tick_us INTEGER",
    "ALTER TABLE _scheduler_jobs ADD COLUMN cron_run BLOB",
    "CREATE UNIQUE INDEX _scheduler_jobs_tick ON _scheduler_jobs (cron, tick_us) WHERE cron IS NOT NULL",
    "CREATE INDEX _scheduler_jobs_cron ON _scheduler_jobs (seq) WHERE cron IS NOT NULL",
    "CREATE INDEX _scheduler_jobs_cron_waiting ON _scheduler_jobs (cron) WHERE cron IS NOT NULL AND state = 'pending'",
    """CREATE TABLE _scheduler_crons (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        origin TEXT NOT NULL,
        spec BLOB NOT NULL,
        path TEXT NOT NULL,
        zone TEXT,
        anchor_us INTEGER NOT NULL,
        watermark_us INTEGER NOT NULL,
        tick_us INTEGER,
        fire_at_us INTEGER,
        skipped INTEGER NOT NULL DEFAULT 0,
        paused_at_us INTEGER,
        note TEXT NOT NULL DEFAULT '',
        trouble TEXT,
        created_at_us INTEGER NOT NULL,
        changed_at_us INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX _scheduler_crons_due ON _scheduler_crons (fire_at_us, id) WHERE fire_at_us IS NOT NULL",
    "CREATE INDEX _scheduler_crons_zone ON _scheduler_crons (zone) WHERE zone IS NOT NULL",
    "CREATE INDEX _scheduler_crons_path ON _scheduler_crons (path)",
    "CREATE INDEX _scheduler_crons_manifest ON _scheduler_crons (name) WHERE origin = 'manifest'",
    """CREATE TABLE _scheduler_skips (
        id INTEGER PRIMARY KEY,
        cron TEXT NOT NULL,
        reason TEXT NOT NULL,
        first_tick_us INTEGER NOT NULL,
        last_tick_us INTEGER NOT NULL,
        ticks INTEGER NOT NULL,
        recorded_at_us INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX _scheduler_skips_cron ON _scheduler_skips (cron, last_tick_us)",
    "CREATE INDEX _scheduler_skips_recorded ON _scheduler_skips (recorded_at_us)",
    """CREATE TABLE _scheduler_manifests (
        version INTEGER PRIMARY KEY,
        digest TEXT NOT NULL UNIQUE,
        state TEXT NOT NULL,
        definitions BLOB NOT NULL,
        staged_at_us INTEGER NOT NULL,
        activated_at_us INTEGER
    ) STRICT""",
)

STEPS: Final = (_STEP_1, _STEP_2, _STEP_3)
TABLES: Final = frozenset({
    "_scheduler_meta", "_scheduler_jobs", "_scheduler_attempts", "_scheduler_schema_steps", "_scheduler_crons",
    "_scheduler_skips", "_scheduler_manifests",
})  # fmt: skip
VERSION: Final = len(STEPS)

# A temporary view, made on each of our connections: views of the file itself may not use functions of ours.
_INNER_VIEW: Final = f"""CREATE TEMP VIEW IF NOT EXISTS {INNER_VIEW} AS SELECT
    printf('%016x%016x', seq, nonce) AS id, path AS name, kind, state, msgpack_to_json(args) AS args,
    scheduled_at_us AS scheduled_time_us, completed_at_us AS completed_time_us, started_at_us AS started_time_us,
    created_at_us AS created_time_us, fire_at_us, attempt, key, cause, error, error_code,
    msgpack_to_json(result) AS result, result_truncated, coalesce(occurrence_id, printf('%016x%016x', seq, nonce))
    AS occurrence_id, parent_id, lane, priority, cron FROM main._scheduler_jobs"""


def make_view(connection: sqlite3.Connection) -> None:
    """Make `_scheduled_functions` readable on this connection."""
    # Without our secret comment: the text of a view can be read.
    connection.execute(_INNER_VIEW)
    connection.execute(f"CREATE TEMP VIEW IF NOT EXISTS {SYSTEM_VIEW} AS SELECT * FROM temp.{INNER_VIEW}")


def migrate(connection: sqlite3.Connection, now_us: int) -> None:
    """Bring the file to today's schema in one transaction; harmless when it is there already.

    Raises SchemaError for a file of a newer release or of another program; the file is then untouched.
    """
    version = check_ours(connection)
    if version == VERSION:
        return
    connection.execute(ours("BEGIN IMMEDIATE"))
    try:
        for step in STEPS[version:]:
            for statement in step:
                connection.execute(statement)  # without our secret comment: its text is kept in the file
        if version == 0:
            connection.executemany(
                ours("INSERT INTO main._scheduler_meta (name, value) VALUES (?, ?)"),
                [("db_uuid", secrets.token_hex(16)), ("created_at_us", now_us), ("boot_epoch", 0), ("seq_reserved", 0)],
            )
        connection.execute(ours(f"PRAGMA application_id = {APPLICATION_ID}"))
        connection.execute(ours(f"PRAGMA user_version = {VERSION}"))
        connection.execute(ours("COMMIT"))
    except BaseException:
        if connection.in_transaction:
            connection.execute(ours("ROLLBACK"))
        raise


def check_ours(connection: sqlite3.Connection) -> int:
    """Return the file's schema version, 0 for one that has none of ours. Raises SchemaError when it is not for us."""
    version: int = connection.execute(ours("PRAGMA user_version")).fetchone()[0]
    application: int = connection.execute(ours("PRAGMA application_id")).fetchone()[0]
    if application != APPLICATION_ID and (application or version):
        msg = f"the file belongs to another program (application_id {application:#x}); give the app a file of its own"
        raise SchemaError(msg)
    if version > VERSION:
        msg = f"the file has schema version {version}, this release knows up to {VERSION}: upgrade actor-scheduler"
        raise SchemaError(msg)
    like_ours = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_sched%' ESCAPE '\\'"
    if version == 0 and connection.execute(ours(like_ours)).fetchone()[0]:
        msg = "the file holds tables named _sched… that are not the scheduler's: give the app a file of its own"
        raise SchemaError(msg)
    return version
