"""Commands about a whole app: figures, pauses, pools; and calling and scheduling its functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from runtime.cli import completing, tables
from runtime.cli.arguments import number_or_text, read_json, read_object
from runtime.cli.asking import Asked, asks
from runtime.cli.output import Lines
from runtime.cli.text import shown
from runtime.cli.trouble import USAGE, Trouble
from runtime.offline import UNDECLARED

if TYPE_CHECKING:
    from collections.abc import Sequence


@click.command()
@click.argument("path", shell_complete=completing.functions)
@click.argument("args", metavar="[JSON]", required=False)
@click.option("--idempotency-key", help="Of a mutation: sent again with the same key, it takes effect once.")
@asks
async def call(asked: Asked, *, path: str, args: str | None, idempotency_key: str | None) -> None:
    """Run a function now, and print what it returns. JSON is an object of arguments, @FILE, or - for standard input."""
    asked.client.needs_app("call")
    body: dict[str, Any] = {"path": path, "args": read_object(args, "the arguments")}
    if idempotency_key is not None:
        body["idempotency_key"] = idempotency_key
    done = await asked.client.post("call", body, patient=True)
    asked.out.show(done, lambda: [Lines([shown(done["result"])])])


@click.command()
@click.argument("path", shell_complete=completing.functions)
@click.argument("args", metavar="[JSON]", required=False)
@click.option("--in", "in_", help="How long from now: 5m, 1h30m, or seconds.")
@click.option("--at", help="When: ISO 8601 with Z or an offset, or epoch seconds.")
@click.option("--key", help="At most one unfinished job has this key.")
@click.option("--on-conflict", type=click.Choice(("keep", "replace", "error")), help="When the key is taken.")
@click.option("--idempotency-key", help="Sent again with the same key, the job is there once.")
@click.option("--lane", help="Jobs of a lane run one after the other.")
@click.option("--priority", type=int, help="Among due jobs, higher ones start first.")
@click.option("--attempt-timeout", "limit", metavar="SPAN", help="How long an attempt of an action may take.")
@click.option("--retry", metavar="N|JSON", help='How often it is tried, or {"max_attempts": 5, "base": "1m"}.')
@asks
async def schedule(asked: Asked, *, path: str, args: str | None, in_: str | None, at: str | None, **more: Any) -> None:
    """Schedule a function: --in some time, --at a moment, or for now."""
    asked.client.needs_app("schedule")
    if in_ is not None and at is not None:
        raise Trouble(USAGE, "give --in or --at, not both")
    body: dict[str, Any] = {"path": path, "args": read_object(args, "the arguments")}
    spans = {"in": in_, "at": at, "timeout": more.pop("limit")}
    body.update({name: number_or_text(given) for name, given in spans.items() if given is not None})
    retry = more.pop("retry")
    if retry is not None:
        body["retry"] = read_json(retry, "--retry")
    body.update({name: value for name, value in more.items() if value is not None})
    done = await asked.client.post("jobs", body)
    asked.out.show(done, lambda: [Lines([str(done["id"])])])


@click.command()
@asks
async def stats(asked: Asked) -> None:
    """Show the figures of a first look: what waits, what runs, what failed, how fast it goes."""
    doc = await asked.client.get("stats")
    if asked.client.closed:  # this process has run nothing: its own figures say nothing of the app
        unmeasured: dict[str, Any] = {"started_at": None, "uptime_seconds": None, "throughput": []}
        doc = {**doc, **unmeasured, "latency": dict.fromkeys(doc["latency"])}
    asked.out.show(doc, lambda: tables.stats(doc, tables.now_of(doc, asked.world.now())))


@click.command()
@click.option("--note", default="paused", help="Who does it, and why.")
@asks
async def pause(asked: Asked, *, note: str) -> None:
    """Start no job any more, also after a restart, until resumed. What runs goes on."""
    doc = await asked.client.post("pause", {"note": note})
    asked.out.show(doc, lambda: [Lines([f"paused: {doc['paused']}"])])


@click.command()
@asks
async def resume(asked: Asked) -> None:
    """Start jobs again."""
    doc = await asked.client.post("resume")
    asked.out.show(doc, lambda: [Lines(["not paused"])])


# ------------------------------------------------------------------ pools


class _Pools(click.Group):
    """A group of which the first command is meant where none is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read `pools --json` as `pools list --json`."""
        named = bool(args) and (args[0] in self.commands or args[0] == "--help" or not args[0].startswith("-"))
        return super().parse_args(ctx, args if named else ["list", *args])


@click.group(cls=_Pools)
def pools() -> None:
    """List the pools, or set how many of a pool's actions run at once."""


@pools.command("list")
@asks
async def list_pools(asked: Asked) -> None:
    """List the pools."""
    doc = {"items": _known((await asked.client.get("pools"))["items"], closed=asked.client.closed)}
    asked.out.show(doc, lambda: [tables.pools(doc["items"])])


@pools.command("set")
@click.argument("name", shell_complete=completing.pools)
@click.argument("limit", metavar="LIMIT|default")
@asks
async def set_pool(asked: Asked, *, name: str, limit: str) -> None:
    """Let at most LIMIT of a pool's actions run at once; 0 pauses it, "default" is what the code declares."""
    if limit != "default" and not (limit.isascii() and limit.isdigit()):
        raise Trouble(USAGE, 'LIMIT is a whole number from 0, or "default"')
    done = await asked.client.post("pools", {"name": name, "limit": None if limit == "default" else int(limit)})
    doc = _known([done], closed=asked.client.closed)[0]
    asked.out.show(doc, lambda: [tables.pools([doc])])


def _known(items: Sequence[dict[str, Any]], *, closed: bool) -> list[dict[str, Any]]:
    """Return pools without what only the code can say, where the code is not here."""
    if not closed:
        return list(items)
    return [
        {**pool, "declared": None, "limit": None if pool["limit"] == UNDECLARED else pool["limit"]} for pool in items
    ]
