"""The app's own schema: numbered steps, each applied once, in order, and never changed afterwards."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from actor_scheduler.errors import SchemaError
from actor_scheduler.store.sqlite.app_schema import SchemaStep, read_steps, statements

TRIGGER = """CREATE TRIGGER count_up AFTER INSERT ON t BEGIN
    UPDATE counts SET n = n + 1; -- one; more
    INSERT INTO log VALUES ('a;b');
END"""


def tables(db: Path) -> set[str]:
    """Return the names of the app's tables, indexes and triggers in the file."""
    other = sqlite3.connect(db)
    found = {
        name
        for (name,) in other.execute("SELECT name FROM sqlite_schema")
        if not name.startswith(("_sched", "sqlite_"))
    }
    other.close()
    return found


async def start(open_bench: Any, *steps: str) -> None:
    """Start and stop a store with these steps."""
    async with open_bench(*steps):
        pass


async def test_a_step_is_applied_once_over_restarts(open_bench: Any, db: Path) -> None:
    """A start applies only the steps the file does not have, and leaves what the others made."""
    await start(open_bench, "CREATE TABLE a (x); INSERT INTO a VALUES (1)")
    await start(open_bench, "CREATE TABLE a (x); INSERT INTO a VALUES (1)")
    await start(open_bench, "CREATE TABLE a (x); INSERT INTO a VALUES (1)", "CREATE TABLE b (x)")
    other = sqlite3.connect(db)
    assert other.execute("SELECT count(*) FROM a").fetchall() == [(1,)]
    other.close()
    assert tables(db) == {"a", "b"}


@pytest.mark.parametrize(
    ("now", "hint"),
    [
        (["CREATE TABLE a (x, y)", "CREATE TABLE b (x)"], r"step 1 \(step 1\) has changed"),
        (["CREATE TABLE a (x) ", "CREATE TABLE b (x)"], "step 1"),
        (["CREATE TABLE b (x)", "CREATE TABLE a (x)"], "step 1"),
        (["CREATE TABLE a (x)", "CREATE TABLE c (x)"], "step 2"),
        (["CREATE TABLE a (x)"], "the file has 2 schema steps, the app declares 1"),
        ([], "only ever added"),
    ],
)
async def test_steps_are_only_ever_added(now: list[str], hint: str, open_bench: Any, db: Path) -> None:
    """A changed, reordered or removed step stops the start in one sentence, and the file stays as it was."""
    await start(open_bench, "CREATE TABLE a (x)", "CREATE TABLE b (x)")
    with pytest.raises(SchemaError, match=hint):
        await start(open_bench, *now, "CREATE TABLE later (x)") if len(now) == 2 else await start(open_bench, *now)
    assert tables(db) == {"a", "b"}
    await start(open_bench, "CREATE TABLE a (x)", "CREATE TABLE b (x)")


@pytest.mark.parametrize(
    "broken",
    [
        "CREATE TABLE c (x); CREATE TABLE c (x)", "CREATE TABLE c (x); nonsense", "CREATE TABLE c (x); INSERT INTO c VALUES (1, 2)",
        "CREATE TABLE c (x); SELECT * FROM missing", "CREATE TABLE c (x); COMMIT", "CREATE TABLE c (x UNIQUE); INSERT INTO c VALUES (1), (1)",
        "CREATE TABLE c (x); SELECT 'open", "CREATE TABLE c (x); CREATE TABLE (", "CREATE TABLE c (x REFERENCES _scheduler_jobs)",
    ],
)  # fmt: skip
async def test_a_failing_step_applies_nothing_of_any(broken: str, open_bench: Any, db: Path) -> None:
    """All steps of a start are one transaction: when one fails, none is kept, and a corrected one can be applied."""
    await start(open_bench, "CREATE TABLE a (x)")
    with pytest.raises(SchemaError):
        await start(open_bench, "CREATE TABLE a (x)", "CREATE TABLE b (x)", broken)
    assert tables(db) == {"a"}
    await start(open_bench, "CREATE TABLE a (x)", "CREATE TABLE b (x)", "CREATE TABLE c (x)")
    assert tables(db) == {"a", "b", "c"}


async def test_a_failing_step_is_named_with_its_statement(open_bench: Any) -> None:
    """The error says which step and which statement, and what SQLite said."""
    with pytest.raises(SchemaError, match=r"step 2 \(step 2\) failed at 'CREATE TABLE a \(y\);?'.*already exists"):
        await start(open_bench, "CREATE TABLE a (x)", "CREATE TABLE b (x); CREATE TABLE a (y); CREATE TABLE c (x)")


async def test_triggers_keep_their_bodies(open_bench: Any) -> None:
    """A trigger with several statements, strings and comments is one statement, and works."""
    script = (
        f"CREATE TABLE t (x); CREATE TABLE counts (n); CREATE TABLE log (x); INSERT INTO counts VALUES (0);\n{TRIGGER};"
    )
    async with open_bench(script, "INSERT INTO t VALUES (1)") as bench:

        async def read(snapshot: Any) -> list[Any]:
            rows = await snapshot.fetch_all("SELECT n, log.x FROM counts, log", ())
            return [tuple(row.values()) for row in rows]

        assert await bench.ask(read) == [(1, "a;b")]


# ------------------------------------------------------------------ splitting a script

PIECES = [
    "CREATE TABLE a (x)", "INSERT INTO a VALUES ('; -- no /* comment')", 'CREATE TABLE "semi;colon" (x)', "DELETE FROM [a;b]",
    "UPDATE a SET x = 'it''s; fine' WHERE x = `b;c`", "SELECT 1 /* a; b */ + 1", "SELECT 1 -- a; b\n + 1", TRIGGER,
    "CREATE TRIGGER IF NOT EXISTS g BEFORE DELETE ON t WHEN old.x BEGIN SELECT CASE WHEN 1 THEN 2 END; SELECT 3; END",
    "SELECT 'BEGIN; END;'", "-- first; comment\nSELECT 1", "/* ; */ SELECT 2",
]  # fmt: skip
GAPS = st.sampled_from(["", " ", "\n\n", "\n-- between; two\n", "/* between; two */"])


@given(st.lists(st.tuples(st.sampled_from(PIECES), GAPS), max_size=6), st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_a_script_is_split_exactly_at_its_statements(script: list[tuple[str, str]], ends: bool) -> None:
    """Semicolons in strings, names, comments and trigger bodies split nothing, and nothing is lost."""
    text = "".join(f"{piece};{gap}" for piece, gap in script)
    if not ends and script:
        text = text[: -len(script[-1][1]) or None].removesuffix(";")
    found = list(statements(text))
    assert len(found) == len(script)
    for statement, (piece, _) in zip(found, script, strict=True):
        assert statement.rstrip(";").endswith(piece)


@pytest.mark.parametrize("text", ["", "  \n", "-- only a comment", "/* a; b */", "-- a;\n/* b; */ \n--c"])
def test_comments_alone_are_no_statement(text: str) -> None:
    """A script of nothing but comments and space has no statements."""
    assert list(statements(text)) == []


# ------------------------------------------------------------------ where steps come from


def folder(tmp_path: Path, *names: str) -> Path:
    """Make a folder of SQL files."""
    path = tmp_path / "steps"
    path.mkdir()
    for name in names:
        (path / name).write_text(f"-- {name}", "utf-8")
    return path


def test_a_folder_is_read_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    """Numbers count, not text; files without a number are no steps."""
    names = [f"{at:03}_step.sql" for at in range(1, 10)] + ["10_tenth.sql", "0011-dash.sql"]
    path = folder(tmp_path, *reversed(names), "README.sql", "notes.txt", "012_note.sql.bak")
    assert [(step.name, step.sql) for step in read_steps(path)] == [(name, f"-- {name}") for name in names]


@pytest.mark.parametrize(
    "names", [["002_b.sql"], ["001_a.sql", "003_c.sql"], ["001_a.sql", "01_b.sql"], ["000_z.sql", "001_a.sql"]]
)
def test_a_folder_with_gaps_or_doubles_is_refused(names: list[str], tmp_path: Path) -> None:
    """A number that is missing, double or zero is a mistake, found before anything is applied."""
    with pytest.raises(SchemaError, match="numbered 001_"):
        read_steps(folder(tmp_path, *names))


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A missing file or folder is named; text is always SQL, never a path."""
    with pytest.raises(SchemaError, match=r"nowhere.* does not exist"):
        read_steps(tmp_path / "nowhere")
    assert read_steps("001_a.sql") == [SchemaStep("inline", "001_a.sql")]


def test_a_file_is_one_step_and_its_digest_is_its_text(tmp_path: Path) -> None:
    """The digest depends on the text alone: a renamed file is the same step."""
    (tmp_path / "a.sql").write_text("CREATE TABLE é (x)", "utf-8")
    (step,) = read_steps(tmp_path / "a.sql")
    assert (step.name, step.sql) == ("a.sql", "CREATE TABLE é (x)")
    assert step.digest == SchemaStep("b.sql", step.sql).digest != SchemaStep("a.sql", step.sql + " ").digest
