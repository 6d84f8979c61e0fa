"""Commands that load an app's code: check it, serve it."""

from __future__ import annotations

import contextlib
import importlib.util
import logging
from typing import TYPE_CHECKING, Any

import click
import uvicorn

from actor_scheduler import codec
from actor_scheduler.crons.schedule import Cron
from actor_scheduler.errors import ActorSchedulerError, InvalidArgs
from actor_scheduler.limits import SECOND_US
from runtime.app import App
from runtime.cli import text
from runtime.cli.asking import as_json
from runtime.cli.loading import load
from runtime.cli.output import Block, Facts, Lines, Output
from runtime.cli.trouble import REFUSED, USAGE, Trouble
from runtime.http.options import Http
from runtime.http.plain import plain
from runtime.offline import check_schema

if TYPE_CHECKING:
    from collections.abc import Callable

    from actor_scheduler.crons.spec import CronSpec


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--manifest", is_flag=True, help="Print the crons as JSON, as `cron stage` takes them.")
@as_json
def check(*, target: str, manifest: bool, as_json: bool) -> None:
    """Import an app and check all of its functions, crons and schema. Exit code 1 when something is wrong.

    Importing runs the module's code, and ends at the first error of it: a cron that is defined wrongly is one. No
    database is opened.
    """
    app = load(target)
    if not isinstance(app, App):
        raise Trouble(USAGE, f"{target} is a {type(app).__name__}, and not an App: name the App that it is made with")
    problems = _problems(app)
    specs = [] if problems else _specs(app)
    crons = [definition(spec) for spec in specs] if manifest else []
    problems += [f"cron {each['name']!r}: its arguments have values that JSON lacks" for each in crons if each["lossy"]]
    out = Output(as_json=as_json)
    if manifest and not problems:
        document = {"crons": [{name: value for name, value in each.items() if name != "lossy"} for each in crons]}
        click.echo(text.document(document))
        return
    functions = [function.path for function in app._registry.functions()]  # noqa: SLF001 - the app's own command line
    doc = {"ok": not problems, "problems": problems, "functions": functions, "crons": [spec.name for spec in specs]}
    counts = (("functions", functions), ("crons", specs), ("schema steps", app._schema))  # noqa: SLF001
    good: list[Block] = [Facts([(name, str(len(found))) for name, found in counts]), Lines(["No problems found."])]
    if not manifest:
        out.show(doc, lambda: [Lines(problems)] if problems else good)
    if problems:
        told = problems if manifest else [f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found"]
        raise Trouble(REFUSED, "\n".join(told))


def _problems(app: App[Any]) -> list[str]:
    """Return everything that would stop the app's start, each in a line of its own."""
    found: list[str] = []
    steps: list[Callable[[], object]] = [
        lambda: _specs(app),
        lambda: app._registry.routing(app._pools),  # noqa: SLF001
        lambda: check_schema(app._schema),  # noqa: SLF001
    ]
    for step in steps:
        try:
            step()
        except ActorSchedulerError as error:
            found.extend(line.strip() for line in str(error).split("\n") if line.strip())
    return found


def _specs(app: App[Any]) -> list[CronSpec]:
    return list(app._crons.first_unit(app._registry).specs)  # noqa: SLF001


def definition(spec: CronSpec) -> dict[str, Any]:
    """Return a cron's definition as a manifest has it, every option said; `lossy`: JSON can't carry its arguments."""
    when, rule = spec.schedule, spec.rule
    schedule: dict[str, Any] = (
        {"cron": when.expr, "tz": when.tz} if isinstance(when, Cron) else {"every_seconds": when.every_us / SECOND_US}
    )
    args = codec.decode(spec.args)
    return {
        "name": spec.name,
        **schedule,
        "path": spec.path,
        "kind": spec.kind,
        "args": plain(args),
        "missed_tick_policy": rule.missed,
        "max_catch_up_ticks": rule.max_ticks,
        "max_catch_up_age": None if rule.max_age_us is None else rule.max_age_us / SECOND_US,
        "overlap": rule.overlap,
        "jitter": spec.jitter_us / SECOND_US if spec.jitter_us else None,
        "clock": spec.clock,
        "enabled": spec.enabled,
        "description": spec.description,
        "lossy": plain(args) != args,
    }


# ------------------------------------------------------------------ serving


@click.command()
@click.argument("target", metavar="MODULE:APP")
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0: any that is free.")
@click.option(
    "--grace", type=click.IntRange(min=1), default=30, show_default=True, help="For open requests at the end."
)
def serve(*, target: str, host: str, port: int, grace: int) -> None:
    """Serve an app over HTTP, in one process: an App with its administration, or any ASGI application as it is.

    An App's keys come from the environment: ACTOR_SCHEDULER_DEPLOY_KEY, ACTOR_SCHEDULER_READ_KEY,
    ACTOR_SCHEDULER_DISPATCH_SECRET.
    """
    loaded = load(target)
    try:
        served = _surface(loaded)
    except InvalidArgs as error:  # a key of the environment
        raise Trouble(USAGE, str(error)) from None
    if not callable(served):
        raise Trouble(USAGE, f"{target} is a {type(loaded).__name__}: neither an App nor an ASGI application")
    config = uvicorn.Config(
        served,
        host=host,
        port=port,
        workers=1,
        loop="uvloop" if importlib.util.find_spec("uvloop") else "asyncio",
        lifespan="on" if isinstance(loaded, App) else "auto",
        server_header=False,
        timeout_graceful_shutdown=grace,
    )
    _log()
    server = uvicorn.Server(config)
    with contextlib.suppress(KeyboardInterrupt, SystemExit):  # with which uvicorn ends where it could not begin
        server.run()
    if not server.started:
        raise Trouble(REFUSED, f"{target} was not started: the log says why")


class _Lines(logging.Formatter):
    """Log lines that only print: what a job says stands in them, too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's lines."""
        return "\n".join(map(text.safe, super().format(record).split("\n")))


def _log() -> None:
    """Have the app's log, with its audit trail, on standard error, unless the module has seen to that."""
    log = logging.getLogger("actor_scheduler")
    if not log.hasHandlers():
        handler = logging.StreamHandler()
        handler.setFormatter(_Lines("%(levelname)s:     %(message)s"))
        log.addHandler(handler)
        log.setLevel(logging.INFO)


def _surface(loaded: Any) -> Any:
    """Return what is served. Raises InvalidArgs for keys that can't be used."""
    if not isinstance(loaded, App):
        return loaded
    http = Http.from_env()
    if not http.administered:
        click.echo("no ACTOR_SCHEDULER_DEPLOY_KEY is set: there is no administration and no dashboard", err=True)
    return loaded.asgi(http=http)
