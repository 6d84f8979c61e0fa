"""What every command that asks an app has in common: which app, with which key, and how the answer is shown."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any, TypeVar

import click

from runtime.cli.client import Client, Reach, World, connect
from runtime.cli.output import Output
from runtime.cli.trouble import UNREACHED, Trouble

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

F = TypeVar("F", bound="Callable[..., Any]")


class Asked:
    """A command under way: the app it asks, where its words go, and what time it is."""

    def __init__(self, client: Client, out: Output, world: World) -> None:
        self.client = client
        self.out = out
        self.world = world


def as_json(command: F) -> F:
    """Give a command the option --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")(command)


_REACH = (
    click.option(
        "--url", "--project-url", help="The running app, such as http://127.0.0.1:8000 [ACTOR_SCHEDULER_URL]."
    ),
    click.option("--db", type=click.Path(), help="A database file that no app has open, instead of a running app."),
    click.option(
        "--key-file", type=click.Path(), help="A private file (0600) that holds the key; - is standard input."
    ),
    click.option("--insecure-http", is_flag=True, help="Send the key in the clear to another machine."),
    click.option(
        "--timeout", "seconds", type=click.FloatRange(min=0.1), default=60.0, help="For an answer, in seconds."
    ),
)


def reaching(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that say which app, and --json; `ask` takes them."""
    command = as_json(command)
    for option in reversed(_REACH):
        command = option(command)
    return command


def ask(context: click.Context, options: dict[str, Any], command: Callable[[Asked], Awaitable[None]]) -> None:
    """Reach the app that the options of `reaching` say, and run an async command with it."""
    world = context.find_object(World) or World()
    out = Output(as_json=options["as_json"], for_people=world.people)
    reach = Reach(**{name: options[name] for name in Reach.__dataclass_fields__})

    async def run() -> None:
        async with connect(reach, world) as client:
            try:
                await command(Asked(client, out, world))
            except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError) as error:
                msg = f"{client.where} answers in a form that this release does not know ({type(error).__name__})"
                raise Trouble(UNREACHED, msg) from error

    asyncio.run(run())


def asks(command: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Let an async command ask an app: it gets an Asked, and its own options; those of `reaching` are added."""

    @reaching
    @click.pass_context
    @functools.wraps(command)
    def run(context: click.Context, /, **options: Any) -> None:
        taken = {name: options.pop(name) for name in (*Reach.__dataclass_fields__, "as_json")}
        ask(context, taken, lambda asked: command(asked, **options))

    return run
