"""Documents of the administration as tables and facts for people. Pure: what time it is comes in as an argument."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from runtime.cli.moments import brief, moment, parsed, size, span
from runtime.cli.output import Block, Facts, Lines, Table
from runtime.cli.text import short, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

Document = dict[str, Any]

_ERROR_CHARS: Final = 100  # of an error, in a list
_NAME_CHARS: Final = 80
_SINCE: Final = {"pending": "fire_at", "in_progress": "started_at"}  # what a list says of a job


def jobs(items: Sequence[Document], now: datetime) -> Table:
    """Return jobs as a list: of each when it is due, when it started, or when it ended."""
    rows = [
        (
            str(job["id"]),
            short(str(job["path"]), _NAME_CHARS),
            str(job["state"]),
            str(job["attempt"]),
            brief(job.get(_SINCE.get(job["state"], "completed_at")), now),
            short(_why(job), _ERROR_CHARS),
        )
        for job in items
    ]
    return Table(("ID", "FUNCTION", "STATE", "TRY", "WHEN", "WHY"), rows, "no jobs")


def _why(job: Mapping[str, Any]) -> str:
    """Return what is worth knowing of a job in a list: why it failed, else what it belongs to."""
    if job.get("cause"):
        return f"{job['cause']}: {job['error']}" if job.get("error") else str(job["cause"])
    named = ((name, job.get(name)) for name in ("cron", "key", "lane"))
    return ", ".join(f"{name} {value}" for name, value in named if value)


def job(doc: Document, now: datetime) -> list[Block]:
    """Return all that is known of a job."""
    times = ("scheduled_at", "fire_at", "created_at", "started_at", "completed_at")
    names = (
        "id", "path", "kind", "state", "cause", "error", "error_code", "error_data", "attempt", *times, "key",
        "idempotency_key", "lane", "priority", "cron", "parent_id", "occurrence_id", "args", "args_error", "result",
    )  # fmt: skip
    pairs = [
        (name.replace("_", " "), moment(doc.get(name), now) if name in times else shown(doc.get(name)))
        for name in names
        if doc.get(name) is not None
    ]
    if doc.get("result_truncated"):
        pairs.append(("note", "the result was too large to keep: this is an extract"))
    if doc.get("hidden"):
        pairs.append(("note", "this key may not see arguments and results"))
    blocks: list[Block] = [Facts(pairs)]
    if doc.get("attempts"):
        rows = [
            (
                str(each["attempt"]),
                brief(each.get("started_at"), now),
                brief(each.get("ended_at"), now),
                shown(each.get("cause")),
                short(shown(each.get("error")), _ERROR_CHARS),
            )
            for each in doc["attempts"]
        ]
        blocks.append(Table(("TRY", "STARTED", "ENDED", "CAUSE", "ERROR"), rows))
    if doc.get("traceback"):
        blocks.append(Lines(str(doc["traceback"]).rstrip("\n").split("\n")))
    return blocks


def event(doc: Document) -> list[str]:
    """Return a live event of a job as cells."""
    told = [doc.get("at"), doc.get("state"), doc.get("path"), doc.get("id"), f"attempt {doc.get('attempt')}"]
    more = [doc.get("cron") and f"cron {doc['cron']}", doc.get("cause"), doc.get("error")]
    return [str(each) for each in told] + [short(str(each), _ERROR_CHARS) for each in more if each]


# ------------------------------------------------------------------ crons


def crons(items: Sequence[Document], now: datetime) -> Table:
    """Return crons as a list."""
    rows = [
        (
            short(str(cron["name"]), _NAME_CHARS),
            schedule(cron),
            short(str(cron["path"]), _NAME_CHARS),
            brief(cron.get("next_at"), now),
            _standing(cron),
        )
        for cron in items
    ]
    return Table(("CRON", "SCHEDULE", "FUNCTION", "NEXT", "STATE"), rows, "no crons")


def schedule(cron: Mapping[str, Any]) -> str:
    """Return when a cron ticks."""
    when = cron.get("schedule") or {}
    if "cron" in when:
        return f"{when['cron']} ({when.get('tz', 'UTC')})"
    return f"every {span(float(when['every_seconds']))}" if "every_seconds" in when else "-"


def _standing(cron: Mapping[str, Any]) -> str:
    if cron.get("trouble"):
        return f"in trouble: {cron['trouble']}"
    if cron.get("paused"):
        return f"paused: {cron['note']}" if cron.get("note") else "paused"
    if not cron.get("enabled", True):
        return "disabled"
    return "on" if cron.get("clock") != "external" else "on, by an outside clock"


def cron(doc: Document, now: datetime) -> list[Block]:
    """Return how a cron stands."""
    pairs = [
        ("cron", str(doc["name"])),
        ("schedule", schedule(doc)),
        ("function", str(doc["path"])),
        ("arguments", shown(doc.get("args"))),
        ("state", _standing(doc)),
        ("next", moment(doc.get("next_at"), now)),
        ("missed ticks", shown(doc.get("missed_tick_policy"))),
        ("overlap", shown(doc.get("overlap"))),
        ("from", shown(doc.get("origin"))),
    ]
    if doc.get("description"):
        pairs.append(("description", str(doc["description"])))
    return [Facts(pairs)]


def runs(items: Sequence[Document], now: datetime) -> Table:
    """Return what became of ticks."""
    rows = [
        (
            short(str(run["cron"]), _NAME_CHARS),
            "by hand" if run.get("manual") and run.get("tick") is None else brief(run.get("tick"), now),
            str(run["state"]),
            "-" if run.get("duration_seconds") is None else span(run["duration_seconds"]),
            str(run.get("job_id") or "-"),
            _told(run),
        )
        for run in items
    ]
    return Table(("CRON", "TICK", "STATE", "TOOK", "JOB", "WHY"), rows, "no runs")


def _told(run: Mapping[str, Any]) -> str:
    parts = [run.get("reason"), short(str(run["error"]), _ERROR_CHARS) if run.get("error") else None]
    if (run.get("ticks") or 1) > 1:
        parts.append(f"{run['ticks']} ticks")
    if run.get("skipped"):
        parts.append(f"{run['skipped']} ticks before were dropped")
    return ", ".join(str(part) for part in parts if part)


def preview(doc: Document, now: datetime) -> Table:
    """Return the next ticks of a cron."""
    rows = [(brief(tick, now), str(local)) for tick, local in zip(doc["ticks"], doc["local"], strict=True)]
    return Table(("NEXT", "BY ITS OWN ZONE"), rows, "it does not tick any more")


def manifests(items: Sequence[Document], now: datetime) -> Table:
    """Return the versions of the definitions."""
    rows = [
        (
            str(each["version"]),
            str(each["state"]),
            str(len(each["crons"])),
            brief(each.get("staged_at"), now),
            brief(each.get("activated_at"), now),
        )
        for each in items
    ]
    return Table(("VERSION", "STATE", "CRONS", "STAGED", "ACTIVATED"), rows, "no manifests")


def diff(changes: Mapping[str, Sequence[str]]) -> Lines:
    """Return what an activation changes."""
    told = [f"{what}: {', '.join(names)}" for what, names in changes.items() if names]
    return Lines(told or ["no crons, before and after"])


# ------------------------------------------------------------------ the app


def pools(items: Iterable[Document]) -> Table:
    """Return the pools; what is declared is unknown of a file whose app is not here."""
    rows = [
        (
            str(pool["name"]),
            "as declared" if pool["limit"] is None else "0 (paused)" if pool["limit"] == 0 else str(pool["limit"]),
            "-" if pool["declared"] is None else str(pool["declared"]),
            str(pool["running"]),
        )
        for pool in items
    ]
    return Table(("POOL", "LIMIT", "DECLARED", "RUNNING"), rows, "no pools")


def stats(doc: Document, now: datetime) -> list[Block]:
    """Return the figures of a first look."""
    jobs_of, crons_of, database = doc["jobs"], doc["crons"], doc["database"]
    latency = {name: value for name, value in (doc.get("latency") or {}).items() if value is not None}
    minutes = doc.get("throughput") or []
    pairs = [
        ("state", "ready" if doc["ready"] else f"not ready: {doc['unready_reason']}"),
        ("paused", shown(doc["paused"]) if doc["paused"] is not None else "no"),
        ("started", moment(doc.get("started_at"), now)),
        ("jobs", ", ".join(f"{jobs_of[name]} {name.replace('_', ' ')}" for name in jobs_of)),
        ("oldest due", f"{moment(doc.get('oldest_due_at'), now)}"),
        ("crons", ", ".join(f"{count} {name}" for name, count in crons_of.items())),
        ("last hour", _hour(minutes) if minutes else "-"),
        ("latency", ", ".join(_figure(name, value) for name, value in latency.items()) or "-"),
        ("database", _database(database)),
        ("version", str(doc["version"])),
    ]
    blocks: list[Block] = [Facts(pairs)]
    if doc.get("running"):
        blocks.append(jobs(doc["running"], now))
    if doc.get("failures"):
        blocks.extend((Lines(["the newest failures:"]), jobs(doc["failures"], now)))
    return blocks


def _hour(minutes: Sequence[Mapping[str, Any]]) -> str:
    kinds = ("success", "failed", "canceled", "retried")
    return ", ".join(f"{sum(int(each.get(kind) or 0) for each in minutes)} {kind}" for kind in kinds)


def _figure(name: str, value: float) -> str:
    if name.endswith("_seconds"):
        return f"{name.removesuffix('_seconds').replace('_', ' ')} {span(value)}"
    return f"{name.replace('_', ' ')} {value:.1f}"


def _database(database: Mapping[str, Any]) -> str:
    free = database.get("disk_free_bytes")
    parts = [size(database["bytes"]), f"log {size(database['wal_bytes'])}"]
    return ", ".join(parts + ([f"{size(free)} free on the disk"] if free is not None else []))


def report(doc: Document) -> list[Block]:
    """Return what an examination of a file found."""
    blocks: list[Block] = [Facts([(name, str(text)) for name, text in doc["facts"].items()])]
    for problem in doc["problems"]:
        lines = [f"{str(problem['gravity']).upper()}: {problem['text']}"]
        blocks.append(Lines([*lines, f"    {problem['advice']}"] if problem.get("advice") else lines))
    return blocks if doc["problems"] else [*blocks, Lines(["No problems found."])]


def now_of(doc: Mapping[str, Any], now: datetime) -> datetime:
    """Return the time of whoever answered, where the answer has it."""
    return parsed(doc.get("now")) or now
