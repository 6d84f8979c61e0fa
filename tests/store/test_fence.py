"""The fence around app SQL: which statements a query, a mutation and a schema step may run, and which nobody may."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.errors import DatabaseError, SchemaError, SqlRefused
from actor_scheduler.store.base import Snapshot, Tx
from actor_scheduler.store.sqlite.fence import ours
from actor_scheduler.testing.bench import Bench, mutation

SCHEMA = """
CREATE TABLE t (x);
CREATE INDEX t_by_x ON t (x);
INSERT INTO t VALUES (1);
CREATE TABLE numbered (id INTEGER PRIMARY KEY AUTOINCREMENT, x);
INSERT INTO numbered (x) VALUES (1);
DELETE FROM sqlite_sequence;
CREATE VIEW doubled AS SELECT x * 2 AS x FROM t;
CREATE TRIGGER t_into_view INSTEAD OF INSERT ON doubled BEGIN INSERT INTO t VALUES (new.x / 2); END;
CREATE VIEW peek AS SELECT * FROM _scheduler_jobs;
CREATE TABLE bait (x);
CREATE TRIGGER bait_deletes AFTER INSERT ON bait BEGIN DELETE FROM _scheduler_jobs; END;
CREATE TABLE lure (x);
CREATE TRIGGER lure_updates AFTER INSERT ON lure BEGIN UPDATE _scheduler_meta SET value = 0; END;
CREATE TABLE spy (x);
CREATE TRIGGER spy_reads AFTER INSERT ON spy BEGIN INSERT INTO t SELECT seq FROM _scheduler_jobs; END;
CREATE VIRTUAL TABLE docs USING fts5(body);
REINDEX t;
"""

# What only reads: allowed in a query and in a mutation.
READS = [
    "SELECT x FROM t", "SELECT x FROM main.t", "SELECT * FROM doubled", "SELECT count(*), max(x) FROM t",
    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n",
    "SELECT json_extract('{\"a\":1}', '$.a')", "SELECT 'commit', '; pragma'",
    "EXPLAIN QUERY PLAN SELECT x FROM t", "VALUES (1), (2)", "", "-- nothing",
    "SELECT id, args FROM _scheduled_functions", "SELECT id FROM _scheduled_functions AS f WHERE f.state = 'pending'",
]  # fmt: skip

# What writes the app's own tables: refused in a query, allowed in a mutation.
WRITES = [
    "INSERT INTO t VALUES (2)", "INSERT INTO main.t VALUES (2)", "UPDATE t SET x = 3", "DELETE FROM t",
    "REPLACE INTO t VALUES (2)", "INSERT OR IGNORE INTO t VALUES (2)", "INSERT INTO t SELECT x FROM t",
    "INSERT INTO t VALUES (2) RETURNING x", "UPDATE t SET x = 3 RETURNING x", "DELETE FROM t RETURNING x",
    "WITH c AS (SELECT 7 AS x) INSERT INTO t SELECT x FROM c", "WITH c AS (SELECT 1 AS x) DELETE FROM t WHERE x IN c",
    "WITH c AS (SELECT 7 AS x) UPDATE t SET x = (SELECT x FROM c) RETURNING x", "INSERT INTO doubled VALUES (8)",
    "INSERT INTO numbered (x) VALUES (2)", "INSERT INTO docs VALUES ('x')",
    "INSERT INTO numbered (id, x) VALUES (1, 2) ON CONFLICT (id) DO UPDATE SET x = 3",
]  # fmt: skip

# What nobody may do, in a query or in a mutation.
NEVER = [
    "COMMIT", "commit;", "/* x */ COMMIT", "END", "ROLLBACK", "ROLLBACK TO unit", "ROLLBACK TO SAVEPOINT nested", "BEGIN",
    "BEGIN IMMEDIATE", "SAVEPOINT mine", "SAVEPOINT unit", "RELEASE unit", "RELEASE SAVEPOINT nested", "SELECT 1; COMMIT",
    "PRAGMA user_version", "PRAGMA user_version = 9", "PRAGMA foreign_keys = OFF", "PRAGMA synchronous = OFF",
    "PRAGMA query_only = OFF", "PRAGMA writable_schema = ON", "PRAGMA wal_checkpoint", "PRAGMA data_version = 1",
    "PRAGMA main.table_info(t)", "SELECT * FROM pragma_table_info('t')", "SELECT * FROM pragma_user_version",
    "EXPLAIN PRAGMA wal_checkpoint", "EXPLAIN COMMIT",
    "ATTACH ':memory:' AS other", "ATTACH DATABASE 'x.db' AS other", "DETACH main", "VACUUM", "VACUUM INTO 'copy.db'",
    "CREATE TABLE u (x)", "CREATE TEMP TABLE u (x)", "CREATE TABLE temp.u (x)", "CREATE TABLE IF NOT EXISTS t (x)",
    "CREATE INDEX i ON t (x)", "CREATE VIEW w AS SELECT 1", "CREATE TEMP VIEW w AS SELECT 1",
    "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END", "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE f USING fts5(x)", "CREATE VIRTUAL TABLE temp.f USING fts5(x)", "CREATE TABLE u AS SELECT 1 AS x",
    "DROP TABLE t", "DROP TABLE IF EXISTS t", "DROP VIEW doubled", "DROP VIEW _scheduled_functions", "DROP TRIGGER t_into_view",
    "DROP TABLE docs", "ALTER TABLE t ADD COLUMN y", "ALTER TABLE t RENAME TO s", "ANALYZE", "ANALYZE t", "REINDEX", "REINDEX t",
    "SELECT * FROM _scheduler_jobs", "SELECT seq FROM main._scheduler_jobs",
    "SELECT value FROM _scheduler_meta", 'SELECT * FROM "_scheduler_schema_steps"', "SELECT * FROM peek",
    "SELECT x FROM t WHERE x IN (SELECT seq FROM _scheduler_jobs)",
    "WITH j AS (SELECT * FROM _scheduler_jobs) SELECT * FROM j", "EXPLAIN SELECT * FROM _scheduler_jobs",
    "SELECT * FROM (SELECT * FROM _scheduler_jobs) AS _scheduled_functions",
    "INSERT INTO t SELECT seq FROM _scheduler_jobs", "UPDATE t SET x = (SELECT max(seq) FROM _scheduler_jobs)",
    "INSERT INTO _scheduler_meta VALUES ('x', 1)", "UPDATE _scheduler_jobs SET state = 'canceled'",
    "UPDATE main._scheduler_jobs SET state = 'canceled'", "DELETE FROM _scheduler_jobs", "DELETE FROM [_Scheduler_Jobs]",
    "REPLACE INTO _scheduler_meta VALUES ('boot_epoch', 0)", "DELETE FROM _scheduled_functions",
    "UPDATE _scheduled_functions SET state = 'canceled'", "INSERT INTO peek (seq) VALUES (1)", "INSERT INTO bait VALUES (1)",
    "INSERT INTO lure VALUES (1)", "INSERT INTO spy VALUES (1)", "DELETE FROM sqlite_sequence", "DELETE FROM sqlite_schema",
    "UPDATE sqlite_master SET sql = ''", "SELECT * FROM sqlite_stmt", "SELECT sql FROM sqlite_stmt AS s",
    "SELECT load_extension('x')", "SELECT fts3_tokenizer('x')", "SELECT x FROM t\0; COMMIT",
]  # fmt: skip

# What a schema step may not do either.
NEVER_IN_SCHEMA = [
    "COMMIT", "ROLLBACK", "BEGIN", "SAVEPOINT mine", "PRAGMA foreign_keys = OFF", "PRAGMA user_version = 9", "VACUUM",
    "ATTACH ':memory:' AS other", "CREATE TEMP TABLE u (x)", "CREATE TEMP VIEW w AS SELECT 1",
    "CREATE TEMP TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END", "CREATE TABLE _scheduler_mine (x)",
    "CREATE TABLE _Scheduled_mine (x)", "CREATE VIEW _scheduler_v AS SELECT 1", "CREATE INDEX _scheduler_i ON t (x)",
    "CREATE INDEX i ON _scheduler_jobs (path)", "CREATE TRIGGER g AFTER INSERT ON _scheduler_jobs BEGIN SELECT 1; END",
    "CREATE TRIGGER g INSTEAD OF DELETE ON _scheduled_functions BEGIN SELECT 1; END",
    "CREATE TRIGGER _scheduler_g AFTER INSERT ON t BEGIN SELECT 1; END", "DROP TABLE _scheduler_jobs",
    "DROP INDEX _scheduler_jobs_due", "ALTER TABLE _scheduler_jobs ADD COLUMN y", "ALTER TABLE _scheduler_jobs RENAME TO j",
    "INSERT INTO _scheduler_meta VALUES ('x', 1)", "DELETE FROM _scheduler_jobs", "UPDATE _scheduler_meta SET value = 1",
    "SELECT * FROM _scheduler_jobs", "CREATE TABLE u AS SELECT * FROM _scheduler_jobs", "INSERT INTO bait VALUES (1)",
    "CREATE TABLE u (x REFERENCES _scheduler_jobs (seq))", "ALTER TABLE t ADD COLUMN y REFERENCES _scheduler_jobs (seq)",
    "CREATE TABLE u (x, FOREIGN KEY (x) REFERENCES _SCHEDULER_JOBS)", "SELECT load_extension('x')", "DROP VIEW _scheduled_functions",
]  # fmt: skip


@pytest.fixture
async def bench(open_bench: Any) -> Any:
    """A store with the tables above, and one pending job."""
    async with open_bench(SCHEMA) as bench:
        await bench.insert(mutation())
        yield bench


async def query(bench: Bench, sql: str) -> Any:
    """Run one statement in a query and return its rows, or its error."""

    async def body(snapshot: Snapshot) -> Any:
        return [dict(row) for row in await snapshot.fetch_all(sql, ())]

    return await bench.ask(body)


async def mutate(bench: Bench, *statements: str, fetch: bool = False) -> Any:
    """Run statements in one mutation and return the last one's answer; the first error ends it."""

    async def body(tx: Tx) -> Any:
        for sql in statements:
            last = await (tx.fetch_all(sql, ()) if fetch else tx.execute(sql, ()))
        return last

    return await bench.mutate(body)


def content(path: Path) -> dict[str, Any]:
    """Return all of the file, as another connection sees it."""
    other = sqlite3.connect(path)
    try:
        names = [name for (name,) in other.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        found: dict[str, Any] = {name: other.execute(f'SELECT * FROM "{name}"').fetchall() for name in names}
        found["sqlite_schema"] = other.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
        found["version"] = other.execute("PRAGMA user_version").fetchall()
        return found
    finally:
        other.close()


# ------------------------------------------------------------------ the table


@pytest.mark.parametrize("sql", READS)
async def test_reading_is_allowed_in_queries_and_mutations(sql: str, bench: Bench) -> None:
    """A statement that reads the app's tables, or the system view, gives the same rows in either."""
    assert await query(bench, sql) == [dict(row) for row in await mutate(bench, sql, fetch=True)]


@pytest.mark.parametrize("sql", WRITES)
async def test_writing_is_for_mutations_only(sql: str, bench: Bench, db: Path) -> None:
    """A write through any door is refused in a query and changes the file in a mutation."""
    before = content(db)
    with pytest.raises(SqlRefused, match="not allowed here"):
        await query(bench, sql)
    assert content(db) == before
    await mutate(bench, sql)
    assert content(db) != before


@pytest.mark.parametrize("sql", NEVER)
async def test_H10_what_nobody_may_do_is_refused_and_changes_nothing(sql: str, bench: Bench, db: Path) -> None:
    """In a query or a mutation, run or fetched, alone or many, it fails, and the mutation can go on without it."""
    before = content(db)
    with pytest.raises(DatabaseError):
        await query(bench, sql)
    refusals = []

    async def tries(tx: Tx) -> None:
        await tx.execute("INSERT INTO t VALUES ('kept')", ())
        for call in (lambda: tx.execute(sql, ()), lambda: tx.fetch_all(sql, ()), lambda: tx.fetch_one(sql, ()),
                     lambda: tx.executemany(sql, [()])):  # fmt: skip
            try:
                await call()
            except DatabaseError as error:
                refusals.append(error)

    await bench.mutate(tries)
    assert len(refusals) == 4
    assert content(db) == {**before, "t": [*before["t"], ("kept",)]}


@pytest.mark.parametrize("sql", NEVER_IN_SCHEMA)
async def test_what_a_schema_step_may_not_do_stops_the_start(sql: str, open_bench: Any, db: Path) -> None:
    """A refused statement in a schema step names the step, and nothing of the step is kept."""
    async with open_bench(SCHEMA):
        pass
    before = content(db)
    with pytest.raises(SchemaError, match=r"(?i)step 2|foreign key to _scheduler"):
        async with open_bench(SCHEMA, f"CREATE TABLE half (x);\n{sql}"):
            pass
    after = content(db)
    assert {**after, "_scheduler_meta": None} == {**before, "_scheduler_meta": None}


# ------------------------------------------------------------------ the statement cache


@pytest.mark.parametrize(
    "sql",
    ["BEGIN IMMEDIATE", "COMMIT", "ROLLBACK", "SAVEPOINT unit", "RELEASE unit", "ROLLBACK TO unit", "SAVEPOINT nested"],
)
async def test_the_same_text_run_by_us_before_is_still_refused(sql: str, bench: Bench) -> None:
    """A statement of ours is prepared once and cached by its text: the app's own never finds it (trap)."""
    for _ in range(3):
        await mutate(bench, "INSERT INTO t VALUES (1)")
        with pytest.raises(SqlRefused):
            await mutate(bench, sql)
        with pytest.raises(SqlRefused):
            await query(bench, sql)


async def test_the_same_text_run_by_the_app_before_does_not_stop_us(bench: Bench) -> None:
    """A text the app was refused stays ours to run."""
    for sql in ("SELECT value FROM main._scheduler_meta", "COMMIT", "BEGIN", "ROLLBACK"):
        with pytest.raises(SqlRefused):
            await query(bench, sql)
        with pytest.raises(SqlRefused):
            await mutate(bench, sql)
    assert await query(bench, "SELECT x FROM t") == [{"x": 1}]
    await bench.insert(mutation())
    assert await bench.count() == 2


@pytest.mark.parametrize("suffix", ["", ";", " /* schema step 1 */"])
async def test_a_schema_step_prepared_before_is_still_refused_in_a_mutation(suffix: str, bench: Bench) -> None:
    """What a schema step could do, a mutation can't, also right after the step ran the same text."""
    for sql in (
        "DELETE FROM sqlite_sequence",
        "CREATE TABLE t (x)",
        "CREATE TABLE bait (x)",
        "CREATE VIRTUAL TABLE docs USING fts5(body)",
    ):
        with pytest.raises(DatabaseError):
            await mutate(bench, sql + suffix)


async def test_a_refused_text_is_refused_every_time(bench: Bench) -> None:
    """A refusal is never cached into a permission, whatever ran in between."""
    for _ in range(3):
        with pytest.raises(SqlRefused):
            await mutate(bench, "INSERT INTO t VALUES (1)", "DROP TABLE t")
        await mutate(bench, "INSERT INTO t VALUES (2)")
    assert len(await query(bench, "SELECT x FROM t")) == 4


# ------------------------------------------------------------------ what apps rely on


async def test_full_text_tables_work_where_they_were_made(bench: Bench) -> None:
    """An FTS5 table can be filled, searched, changed, rolled back and rebuilt: its inner statements pass the fence."""
    await mutate(bench, "INSERT INTO docs VALUES ('red apple')", "INSERT INTO docs VALUES ('green pear')")
    with pytest.raises(SqlRefused):
        await mutate(bench, "INSERT INTO docs VALUES ('red plum')", "DROP TABLE docs")
    found = "SELECT body FROM docs WHERE docs MATCH 'red' ORDER BY rank"
    assert [dict(row) for row in await mutate(bench, found, fetch=True)] == [{"body": "red apple"}]
    await mutate(bench, "UPDATE docs SET body = 'red pear' WHERE body = 'green pear'")
    await mutate(bench, "INSERT INTO docs(docs) VALUES ('rebuild')", "DELETE FROM docs WHERE body = 'red apple'")
    assert [dict(row) for row in await mutate(bench, found, fetch=True)] == [{"body": "red pear"}]


async def test_a_refusal_says_what_was_refused_and_where_it_belongs(bench: Bench) -> None:
    """The error names the action and its object, and points to where it is allowed."""
    with pytest.raises(SqlRefused, match=r"SAVEPOINT BEGIN mine is not allowed here.*App\.schema"):
        await mutate(bench, "SAVEPOINT mine")
    with pytest.raises(SqlRefused, match="READ _scheduler_jobs seq"):
        await query(bench, "SELECT seq FROM _scheduler_jobs")


# ------------------------------------------------------------------ known gaps


@pytest.mark.parametrize("table", ["_scheduler_jobs", "_scheduler_meta"])
async def test_a_cte_named_like_the_system_view_reads_nothing_more(table: str, bench: Bench) -> None:
    """Naming a subquery after the view does not open the tables behind it."""
    with pytest.raises(SqlRefused):
        await query(bench, f"WITH _scheduled_functions AS (SELECT * FROM {table}) SELECT * FROM _scheduled_functions")


@pytest.mark.parametrize("table", ["sqlite_schema", "sqlite_temp_schema"])
async def test_the_secret_of_our_statements_can_t_be_read(table: str, bench: Bench) -> None:
    """No SQL of the app can find the comment that keeps our prepared statements apart."""
    secret = ours("").strip()
    for read in (query(bench, f"SELECT sql FROM {table}"), mutate(bench, f"SELECT sql FROM {table}", fetch=True)):
        try:
            rows = await read
        except SqlRefused:
            continue
        assert not any(secret in (row["sql"] or "") for row in rows)


async def test_a_nested_query_can_t_write_what_its_mutation_has_written(bench: Bench) -> None:
    """A query inside a mutation may only read, also with the very text the mutation ran before."""
    insert = "INSERT INTO t VALUES (2) RETURNING x"

    async def nested(snapshot: Snapshot) -> None:
        await snapshot.fetch_all(insert, ())

    async def body(tx: Tx) -> None:
        await tx.fetch_all(insert, ())
        with pytest.raises(SqlRefused):
            await tx.nested_query(nested)

    await bench.mutate(body)


async def test_a_cached_schema_statement_can_t_be_found_by_its_comment(bench: Bench) -> None:
    """The text a schema step was prepared under can't be run in a mutation."""
    with pytest.raises(SqlRefused):
        await mutate(bench, "REINDEX t /* schema step 1 */")


VIRTUAL = [
    "SELECT value FROM json_each('[1, 2]')",
    "SELECT body FROM docs WHERE docs MATCH 'red'",
    "SELECT count(*) FROM docs",
]


@pytest.mark.parametrize("sql", VIRTUAL)
async def test_virtual_tables_can_be_read_in_a_query(sql: str, bench: Bench) -> None:
    """json_each and FTS5 tables work in a query, on a connection that has not met them before."""
    assert await query(bench, sql) == [dict(row) for row in await mutate(bench, sql, fetch=True)]


@pytest.mark.parametrize("sql", [*VIRTUAL, "INSERT INTO docs VALUES ('red')"])
async def test_virtual_tables_work_in_a_mutation_after_a_restart(sql: str, bench: Bench) -> None:
    """A mutation may use them in a process that did not make them."""
    await bench.restart()
    await mutate(bench, sql, fetch=True)


@pytest.mark.parametrize(
    "sql",
    ["SELECT count(*) AS n FROM _scheduled_functions", "SELECT 1 AS n FROM _scheduled_functions",
     "SELECT count(id) AS n FROM _SCHEDULED_FUNCTIONS", "SELECT count(id) AS n FROM _Scheduled_Functions AS f"],
)  # fmt: skip
async def test_jobs_can_be_counted_with_ordinary_sql(sql: str, bench: Bench) -> None:
    """The system view answers count(*), and SQL's names know no case."""
    assert await query(bench, sql) == [{"n": 1}]


@pytest.mark.parametrize(
    "sql",
    [
        "ALTER TABLE t RENAME TO s",
        "ALTER TABLE t RENAME COLUMN x TO y",
        "ALTER TABLE t DROP COLUMN z",
        "CREATE VIRTUAL TABLE boxes USING rtree(id, a, b)",
    ],
)
async def test_a_schema_step_may_rename_and_make_r_trees(sql: str, open_bench: Any) -> None:
    """What a migration needs of SQLite works in a schema step."""
    async with open_bench("CREATE TABLE t (x, z)", sql) as bench:
        assert await bench.count() == 0


async def test_a_table_can_t_be_renamed_to_a_reserved_name(open_bench: Any) -> None:
    """ALTER TABLE … RENAME TO may not give a name that only the scheduler's tables have."""
    with pytest.raises(SchemaError):
        async with open_bench("CREATE TABLE t (x); ALTER TABLE t RENAME TO _scheduler_mine"):
            pass


@pytest.mark.parametrize("sql", ["ALTER TABLE t ADD COLUMN y", "CREATE INDEX i ON t (x)", "DROP TABLE t", "REINDEX t"])
async def test_a_schema_step_may_change_tables(sql: str, open_bench: Any) -> None:
    """The other changes a migration makes are allowed in a schema step."""
    async with open_bench("CREATE TABLE t (x, z)", sql) as bench:
        assert await bench.count() == 0
