"""`actor-scheduler`: all commands, and how the process ends."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Any

import click
from click.shell_completion import get_completion_class

from actor_scheduler import __version__
from runtime.cli.apps import check, serve
from runtime.cli.crons import cron
from runtime.cli.files import backup, doctor, migrate
from runtime.cli.jobs import jobs
from runtime.cli.steering import call, pause, pools, resume, schedule, stats
from runtime.cli.trouble import USAGE, Trouble

NAME = "actor-scheduler"
_COMPLETE = "_ACTOR_SCHEDULER_COMPLETE"


class _Commands(click.Group):
    """All commands."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Where whoever reads what it prints goes away, as `head` does, that is a good end."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            with contextlib.suppress(OSError, ValueError):  # what is left in buffers goes nowhere
                nowhere = os.open(os.devnull, os.O_WRONLY)
                for stream in (sys.stdout, sys.stderr):
                    os.dup2(nowhere, stream.fileno())
            ctx.exit(0)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name=NAME)
def cli() -> None:
    """Operate an app: a running one over HTTP (--url), or its database file while it is closed (--db).

    The key comes from ACTOR_SCHEDULER_KEY, or a private file (--key-file), and never from a command's words.

    Exit codes: 0 done, 1 a problem was found or something was refused, 2 wrong usage, 3 not reached or not let in,
    4 not found.
    """


@cli.command()
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def completion(*, shell: str) -> None:
    """Print a script that completes commands: eval "$(actor-scheduler completion bash)"."""
    made = get_completion_class(shell)
    if made is None:
        raise Trouble(USAGE, f"there is no completion for {shell}")
    click.echo(made(cli, {}, NAME, _COMPLETE).source())


for command in (check, serve, cron, jobs, call, schedule, stats, pools, pause, resume, doctor, backup, migrate):
    cli.add_command(command)


def main(args: list[str] | None = None) -> Any:
    """Run the command line of this process, and end it with the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that can't show a character gets its escape
            stream.reconfigure(errors="backslashreplace")
    try:
        return cli.main(args, prog_name=NAME, complete_var=_COMPLETE)
    finally:
        if _COMPLETE in os.environ:  # nobody at a shell waits for the thread of a question without an answer
            sys.stdout.flush()
            os._exit(0)
