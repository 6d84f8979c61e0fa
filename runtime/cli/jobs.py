"""Commands about jobs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import click

from actor_scheduler.clock import pause
from runtime.cli import completing, tables
from runtime.cli.asking import Asked, asks
from runtime.cli.output import Facts, Lines
from runtime.cli.trouble import REFUSED, USAGE, Trouble, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Sequence

    import httpx

_STATES: Final = ("pending", "in_progress", "success", "failed", "canceled")
_COUNTS_MAX: Final = 3  # of jobs that change while they are counted
_AGAIN_US: Final = 1_000_000  # before a stream that broke is asked for again
_WHICH: Final = ("state", "function", "key", "cause", "lane", "cron", "text")


@click.group()
def jobs() -> None:
    """Look at jobs, and steer them."""


def which(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which jobs."""
    for option in (
        click.option("--text", help="Jobs in whose names, keys, errors or arguments this stands."),
        click.option("--cron", help="Jobs of this cron.", shell_complete=completing.crons),
        click.option("--lane", help="Jobs of this lane."),
        click.option("--cause", help="Jobs that failed for this cause."),
        click.option("--key", help="The job of this key."),
        click.option(
            "--function", help='Jobs of this function, "namespace:function".', shell_complete=completing.functions
        ),
        click.option("--state", type=click.Choice(_STATES), help="Jobs in this state."),
    ):
        command = option(command)
    return command


def _given(options: dict[str, Any]) -> dict[str, str]:
    return {name: value for name in _WHICH if (value := options.get(name)) is not None}


# ------------------------------------------------------------------ looking


@jobs.command("list")
@which
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True, help="How many at once.")
@click.option("--cursor", help="Where the page before has ended.")
@click.option("--all", "everything", is_flag=True, help="All pages.")
@asks
async def list_jobs(asked: Asked, *, limit: int, cursor: str | None, everything: bool, **options: Any) -> None:
    """List jobs, the newest first."""
    given = _given(options)
    page = await asked.client.get("jobs", **given, limit=limit, cursor=cursor)
    while everything and page["next_cursor"] is not None:
        more = await asked.client.get("jobs", **given, limit=limit, cursor=page["next_cursor"])
        page = {"items": page["items"] + more["items"], "next_cursor": more["next_cursor"]}
    asked.out.show(page, lambda: [tables.jobs(page["items"], asked.world.now())])
    if page["next_cursor"] is not None and not asked.out.as_json:
        asked.out.note(f"more: --cursor {page['next_cursor']}, or --all")


@jobs.command("get")
@click.argument("job_id", metavar="ID", shell_complete=completing.jobs)
@asks
async def get_job(asked: Asked, *, job_id: str) -> None:
    """Show all that is known of a job: arguments, result, error, attempts."""
    doc = await asked.client.get(_path(job_id))
    asked.out.show(doc, lambda: tables.job(doc, asked.world.now()))


def _path(job_id: str, action: str = "") -> str:
    return f"jobs/{quote(job_id, safe='')}{action}"


# ------------------------------------------------------------------ steering


@jobs.command("cancel")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=completing.jobs)
@which
@click.option("--running", is_flag=True, help="Also ask a running action to stop (with ids).")
@click.option("--all", "everything", is_flag=True, help="All pending jobs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks
async def cancel_jobs(asked: Asked, *, ids: Sequence[str], running: bool, **options: Any) -> None:
    """Cancel pending jobs: those with these ids, or all that match."""
    if running and not ids:
        raise Trouble(USAGE, "--running needs ids")
    await _steer(asked, "cancel", ids, options, {"running": True} if running else {})


@jobs.command("retry")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=completing.jobs)
@which
@click.option("--all", "everything", is_flag=True, help="All failed jobs.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks
async def retry_jobs(asked: Asked, *, ids: Sequence[str], **options: Any) -> None:
    """Make failed jobs pending again, due now: those with these ids, or all that match."""
    await _steer(asked, "retry", ids, options, {})


@jobs.command("drop")
@click.argument("ids", metavar="[ID]...", nargs=-1, shell_complete=completing.jobs)
@which
@click.option("--all", "everything", is_flag=True, help="All jobs that have ended.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@asks
async def drop_jobs(asked: Asked, *, ids: Sequence[str], **options: Any) -> None:
    """Forget jobs that have ended: those with these ids, or all that match."""
    await _steer(asked, "drop", ids, options, {})


@jobs.command("promote")
@click.argument("ids", metavar="ID...", nargs=-1, required=True, shell_complete=completing.jobs)
@asks
async def promote_jobs(asked: Asked, *, ids: Sequence[str]) -> None:
    """Make pending jobs due now."""
    await _each(asked, "promote", ids, {})


async def _steer(asked: Asked, action: str, ids: Sequence[str], options: dict[str, Any], body: dict[str, Any]) -> None:
    given = _given(options)
    if bool(ids) + bool(given) + options["everything"] != 1:
        raise Trouble(USAGE, f"which jobs? Give ids, or options such as --state and --function, or --all, to {action}")
    if ids:
        await _each(asked, action, ids, body)
    else:
        await _many(asked, action, given, yes=options["yes"])


async def _each(asked: Asked, action: str, ids: Sequence[str], body: dict[str, Any]) -> None:
    """Do it to each; what could not be changed is said, and is the exit code."""
    items = []
    for job_id in ids:
        answer = await asked.client.post(_path(job_id, f"/{action}"), body)
        items.append({"id": job_id, "changed": bool(answer["changed"])})
    told = {True: f"{action}: done", False: f"{action}: not changed"}
    doc: Any = items[0] if len(items) == 1 else {"items": items}
    asked.out.show(doc, lambda: [Facts([(str(each["id"]), told[bool(each["changed"])]) for each in items])])
    if not all(each["changed"] for each in items):
        raise Trouble(REFUSED, f"{_CHANGES[action]}; see: actor-scheduler jobs get ID")


_CHANGES: Final = {
    "cancel": "only a pending job can be canceled, and with --running one that runs",
    "retry": "only a failed job can be retried",
    "drop": "only a job that has ended can be dropped",
    "promote": "only a pending job can be promoted",
}


async def _many(asked: Asked, action: str, given: dict[str, str], *, yes: bool) -> None:
    """Count, ask, and do it; where more match by then, count and ask again. Raises Trouble when none was changed."""
    body = {"action": action, "filter": given}
    done: Any = {"changed": 0}
    for left in reversed(range(_COUNTS_MAX)):
        counted = await asked.client.post("jobs/bulk", body)
        count = int(counted["count"])
        if not count:
            break
        asked.out.confirm(f"{action} {count} job{'s' if count > 1 else ''}?", yes=yes)
        try:
            done = await asked.client.post("jobs/bulk", {**body, "confirm": counted["confirm"]}, patient=True)
            break
        except Trouble as trouble:
            if trouble.code != "CONFIRMATION_STALE" or not left:
                raise
            asked.out.note(f"not {count} any more: counted again")
    asked.out.show(done, lambda: [Lines([f"{action}: {done['changed']} changed"])])
    if not done["changed"]:
        raise Trouble(REFUSED, "none of them could be changed any more" if count else f"no such job to {action}")


# ------------------------------------------------------------------ live


@jobs.command("watch")
@click.option("--function", help='Only of this function, "namespace:function".', shell_complete=completing.functions)
@click.option("--state", multiple=True, type=click.Choice(_STATES), help="Only into this state; may be given often.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events.")
@asks
async def watch_jobs(asked: Asked, *, function: str | None, state: Sequence[str], count: int | None) -> None:
    """Print what happens to jobs, as it happens, one line each. Ends with Ctrl-C."""
    asked.client.needs_app("jobs watch")
    with contextlib.suppress(asyncio.CancelledError):  # Ctrl-C: it was seen enough
        await _watch(asked, function, frozenset(state), count)


async def _watch(asked: Asked, function: str | None, states: Collection[str], count: int | None) -> None:
    left = count
    standing: bool | None = None  # whether there is a connection; None before the first
    while True:
        try:
            async with asked.client.stream("GET", "events") as response:
                standing = True
                asked.out.note(f"watching {asked.client.where}")
                async for name, doc in _events(response):
                    if name == "lagged":
                        asked.out.note(f"{doc.get('dropped')} events were dropped: this terminal is too slow")
                    if name != "job" or function not in {None, doc["path"]} or (states and doc["state"] not in states):
                        continue
                    asked.out.event(doc, tables.event(doc))
                    left = None if left is None else left - 1
                    if left == 0:
                        return
        except Unreachable as trouble:
            if standing is None:
                raise
            if standing:
                asked.out.note(f"{trouble.message}; asking again until somebody answers")
            standing = False
        await pause(asked.world.clock, _AGAIN_US)


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Yield the events of a stream, by name, with their documents; what is none is left out."""
    name, data = "message", ""
    async for line in response.aiter_lines():
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data += line[5:].strip()
        elif not line:
            if data:
                doc = json.loads(data)
                if isinstance(doc, dict):
                    yield name, doc
            name, data = "message", ""
