"""Commands that load an app's code, and commands about files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from actor_scheduler.crons.spec import digest
from actor_scheduler.store.sqlite.schema import VERSION
from runtime import App
from runtime.cli.apps import definition
from runtime.http.admin_crons import StageAsked, _jobs
from tests.cli import sample
from tests.cli.conftest import Desk
from tests.maintenance.files import copy_of, run


def test_an_app_that_is_well(desk: Desk) -> None:
    """Its functions, crons and schema are counted, and no database is made."""
    done = desk("check", "tests.cli.sample:app")
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "functions     1",
        "crons         4",
        "schema steps  1",
        "",
        "No problems found.",
    ]
    doc = desk.json("check", "tests.cli.sample:app")
    assert doc == {
        "ok": True,
        "problems": [],
        "functions": ["work:note"],
        "crons": ["hourly", "often", "outside", "off"],
    }
    assert not Path("sample.db").exists()


def test_everything_that_is_wrong_is_said_at_once(desk: Desk) -> None:
    """A function's types, a pool, crons, the schema."""
    done = desk("check", "tests.cli.sample:bad")
    assert done.exit_code == 1
    for word in ("Nowhere", "undeclared", "broken:ghost", "'args'", "schema step 1"):
        assert word in done.stdout, done.stdout
    doc = desk.json("check", "tests.cli.sample:bad", code=1)
    assert doc["ok"] is False
    assert len(doc["problems"]) >= 4
    manifest = desk("check", "tests.cli.sample:bad", "--manifest")
    assert (manifest.exit_code, manifest.stdout) == (1, "")


@pytest.mark.parametrize(
    ("target", "code", "said"),
    [
        ("tests.cli.sample", 2, "module:name"),
        ("tests/cli/sample.py:app", 2, "module:name"),
        ("tests.cli.sample:__import__('os').system('x')", 2, "module:name"),
        ("tests.cli.nothing:app", 1, "there is no module tests.cli.nothing"),
        ("tests.cli.sample:nothing", 1, "nothing called nothing"),
        ("tests.cli.sample:api", 2, "FastAPI, and not an App"),
        ("tests.cli.failing:app", 1, "not \\x1b[2J today"),
    ],
)
def test_what_can_not_be_loaded(desk: Desk, target: str, code: int, said: str) -> None:
    """Each in words that say what to do, and none as a traceback of ours."""
    done = desk("check", target)
    assert done.exit_code == code
    assert said in done.stderr
    assert "\x1b" not in done.output


def test_a_cron_that_stops_the_import_is_one_line_with_the_line_that_defines_it(desk: Desk) -> None:
    """Everything that is wrong with it, and no frame of ours."""
    done = desk("check", "tests.cli.miscron:app")
    assert (done.exit_code, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: tests.cli.miscron can't be imported: InvalidCron: cron 'digest': at: ")
    assert "Mars/Olympus" in line
    assert line.endswith("(tests/cli/miscron.py, line 12)")


def test_a_key_that_stops_the_import_is_wrong_usage(desk: Desk) -> None:
    """One line, not that of the key."""
    done = desk("check", "tests.cli.miskey:app", env={"ACTOR_SCHEDULER_DEPLOY_KEY": "short"})
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert "tests/cli/miskey.py" in done.stderr
    assert "short" not in done.stderr


def test_a_manifest_is_what_the_code_defines(desk: Desk) -> None:
    """Read as the administration reads it, it is the same manifest: the code that was checked finds it staged."""
    manifest = json.loads(desk("check", "tests.cli.sample:app", "--manifest").stdout)
    again = App[object]("again.db", namespaces=[sample.work])
    again.crons.define_crons(_jobs(StageAsked.model_validate(manifest).crons))
    specs = sample.app._crons.first_unit(sample.app._registry).specs
    assert digest(again._crons.first_unit(again._registry).specs) == digest(specs)
    assert [each["name"] for each in manifest["crons"]] == [spec.name for spec in specs]
    assert not any(definition(spec)["lossy"] for spec in specs)


def test_a_manifest_goes_from_check_to_stage(desk: Desk) -> None:
    """The two commands of a deploy."""
    desk.make = lambda: App(desk.path, namespaces=[sample.work])
    printed = desk("check", "tests.cli.sample:app", "--manifest").stdout
    staged = desk.json("cron", "stage", "-", input=printed)
    assert staged["diff"]["added"] == ["hourly", "off", "often", "outside"]
    assert desk.json("cron", "stage", "-", input=printed)["version"] == staged["version"]
    assert desk("cron", "stage", "-", "--db", str(desk.path), input=printed).exit_code == 2


@pytest.mark.parametrize("version", range(1, VERSION))
def test_an_older_file_is_migrated(desk: Desk, version: int, tmp_path: Path) -> None:
    """With a copy of what it was beside it; again, nothing is to do."""
    path = copy_of(version, tmp_path / "old.db")
    refused = desk("jobs", "list", "--db", str(path))
    assert refused.exit_code == 1
    assert f"actor-scheduler migrate {path}" in refused.stderr
    doc = desk.json("migrate", str(path))
    assert doc == {"path": str(path), "from": version, "to": VERSION, "backup": f"{path}.v{version}"}
    assert desk.json("migrate", str(path)) == {"path": str(path), "from": VERSION, "to": VERSION, "backup": None}
    assert "up to date" in desk("migrate", str(path)).stdout
    assert desk("jobs", "list", "--db", str(path)).exit_code == 0


def test_no_copy_where_none_is_wanted(desk: Desk, tmp_path: Path) -> None:
    """And files that can't be migrated."""
    path = copy_of(1, tmp_path / "old.db")
    assert desk.json("migrate", str(path), "--no-backup")["backup"] is None
    assert not list(tmp_path.glob("*.v1"))
    run(path, "PRAGMA user_version = 99")
    assert desk("migrate", str(path)).exit_code == 1
    assert desk("migrate", str(tmp_path / "nothing.db")).exit_code == 4
    empty = tmp_path / "empty.db"
    empty.touch()
    assert desk("migrate", str(empty)).exit_code == 1


def test_a_file_is_examined_without_being_opened(desk: Desk, tmp_path: Path) -> None:
    """Well, damaged, missing."""
    path = copy_of(2, tmp_path / "a.db")
    before = path.read_bytes()
    done = desk("doctor", str(path), "--thorough")
    assert done.exit_code == 0
    assert str(path) in done.stdout
    assert desk.json("doctor", "--db", str(path))["ok"] is True
    assert path.read_bytes() == before
    path.write_bytes(before[:2000] + b"\x00" * 3000)
    assert desk.json("doctor", str(path), code=1)["ok"] is False
    assert desk("doctor", str(tmp_path / "nothing.db")).exit_code == 4
    assert desk("doctor", "--db", str(path / "below.db")).exit_code == 4
    assert desk("doctor", "--thorough").exit_code == 2


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(desk: Desk, shell: str) -> None:
    """A script that the shell itself takes, where it is here; and commands complete."""
    done = desk("completion", shell)
    assert done.exit_code == 0
    assert "_ACTOR_SCHEDULER_COMPLETE" in done.stdout
    found = shutil.which(shell)
    if found is not None:
        checked = subprocess.run(
            [found, "-n"], input=done.stdout.encode(), capture_output=True, check=False, timeout=30
        )
        assert checked.returncode == 0, checked.stderr
    assert desk("completion", "powershell").exit_code == 2


def test_every_command_has_help_and_says_json(desk: Desk) -> None:
    """Every command that prints something prints it for programs, too."""
    from runtime.cli.main import cli

    def walk(command: object, words: tuple[str, ...]) -> None:
        inner = getattr(command, "commands", None)
        help_text = desk(*words, "--help")
        assert help_text.exit_code == 0
        if inner:
            for name, each in inner.items():
                walk(each, (*words, name))
            return
        assert getattr(command, "help", None), words
        options = {option for each in command.params for option in each.opts}  # type: ignore[attr-defined]
        assert "--json" in options or words in {("serve",), ("completion",)}, words
        assert not options & {"--key", "--password"} or words[0] in {"jobs", "schedule"}

    walk(cli, ())
