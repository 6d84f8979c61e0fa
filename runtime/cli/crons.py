"""Commands about crons."""

from __future__ import annotations

from typing import Any

import click

from runtime.cli import completing, tables
from runtime.cli.arguments import number_or_text, read_json
from runtime.cli.asking import Asked, asks
from runtime.cli.output import Lines
from runtime.cli.trouble import USAGE, Trouble

_RUN_STATES = ("pending", "in_progress", "success", "failed", "canceled", "skipped")


@click.group()
def cron() -> None:
    """Look at crons, and steer them."""


@cron.command("list")
@click.option("--prefix", help="Only names that begin so.")
@asks
async def list_crons(asked: Asked, *, prefix: str | None) -> None:
    """List all crons, by name."""
    items: list[Any] = []
    cursor = None
    while True:
        page = await asked.client.get("crons", prefix=prefix, limit=1000, cursor=cursor)
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    asked.out.show({"items": items}, lambda: [tables.crons(items, asked.world.now())])


@cron.command("run")
@click.argument("name", shell_complete=completing.crons)
@click.option("--scheduled-at", help="The moment the run is for: ISO 8601, or epoch milliseconds.")
@asks
async def run_cron(asked: Asked, *, name: str, scheduled_at: str | None) -> None:
    """Run a cron now, by hand; its schedule does not move."""
    asked.client.needs_app("cron run")
    body: dict[str, Any] = {"name": name}
    if scheduled_at is not None:
        body["scheduled_at"] = number_or_text(scheduled_at)
    done = await asked.client.post("cron/run", body)
    asked.out.show(done, lambda: [Lines([f"started as job {done['job_id']}"])])


@cron.command("runs")
@click.argument("name", required=False, shell_complete=completing.crons)
@click.option("--state", type=click.Choice(_RUN_STATES), help="Only runs in this state.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many at once.")
@click.option("--cursor", help="Where the page before has ended.")
@asks
async def list_runs(asked: Asked, *, name: str | None, state: str | None, limit: int, cursor: str | None) -> None:
    """List what became of ticks, the newest first: of one cron, or of all."""
    page = await asked.client.get("cron/runs", name=name, state=state, limit=limit, cursor=cursor)
    asked.out.show(page, lambda: [tables.runs(page["items"], asked.world.now())])
    if page["next_cursor"] is not None and not asked.out.as_json:
        asked.out.note(f"more: --cursor {page['next_cursor']}")


@cron.command("preview")
@click.argument("name", shell_complete=completing.crons)
@click.option("-n", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many ticks.")
@asks
async def preview_cron(asked: Asked, *, name: str, n: int) -> None:
    """Show when a cron ticks next."""
    doc = await asked.client.get("cron/preview", name=name, n=n)
    asked.out.show(doc, lambda: [tables.preview(doc, asked.world.now())])


@cron.command("show")
@click.argument("name", shell_complete=completing.crons)
@asks
async def show_cron(asked: Asked, *, name: str) -> None:
    """Show how a cron stands."""
    doc = await asked.client.get("cron", name=name)
    asked.out.show(doc, lambda: tables.cron(doc, asked.world.now()))


@cron.command("pause")
@click.argument("name", shell_complete=completing.crons)
@click.option("--note", default="", help="Who does it, and why.")
@asks
async def pause_cron(asked: Asked, *, name: str, note: str) -> None:
    """Let no tick of a cron run until it is resumed."""
    doc = await asked.client.post("cron/pause", {"name": name, "note": note})
    asked.out.show(doc, lambda: tables.cron(doc, asked.world.now()))


@cron.command("resume")
@click.argument("name", shell_complete=completing.crons)
@asks
async def resume_cron(asked: Asked, *, name: str) -> None:
    """Let a cron go on; what it missed is treated by its own policy."""
    doc = await asked.client.post("cron/resume", {"name": name})
    asked.out.show(doc, lambda: tables.cron(doc, asked.world.now()))


# ------------------------------------------------------------------ versions of the definitions


@cron.command("manifests")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="How many.")
@asks
async def list_manifests(asked: Asked, *, limit: int) -> None:
    """List the versions of what the code defines, the newest first."""
    doc = await asked.client.get("cron/manifests", limit=limit)
    asked.out.show(doc, lambda: [tables.manifests(doc["items"], asked.world.now())])


@cron.command("stage")
@click.argument("manifest", metavar="@FILE")
@asks
async def stage_crons(asked: Asked, *, manifest: str) -> None:
    """Put a version of the definitions on record: what `check module:app --manifest` prints. - is standard input."""
    asked.client.needs_app("cron stage")
    given = read_json(manifest, "the manifest")
    crons = given.get("crons") if isinstance(given, dict) else given
    if not isinstance(crons, list):
        raise Trouble(USAGE, 'a manifest looks like {"crons": [{"name": …, "cron": …, "path": …}, …]}')
    doc = await asked.client.post("cron/manifests", {"crons": crons})
    asked.out.show(doc, lambda: [Lines([_staged(doc)]), tables.diff(doc["diff"])])


def _staged(doc: dict[str, Any]) -> str:
    return f"version {doc['version']} {'holds' if doc['active'] else 'is staged; its activation changes'}"


@cron.command("activate")
@click.argument("version", type=click.IntRange(min=1))
@asks
async def activate_crons(asked: Asked, *, version: int) -> None:
    """Let a staged version hold."""
    asked.client.needs_app("cron activate")
    doc = await asked.client.post("cron/manifests/activate", {"version": version})
    asked.out.show(doc, lambda: [Lines([f"version {version} holds"]), tables.diff(doc)])
