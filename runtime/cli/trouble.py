"""How a command ends that does not end well: what is said of it, and the exit code that scripts go by."""

from __future__ import annotations

from typing import IO, Any, Final

import click

from runtime.cli.text import safe

REFUSED: Final = 1  # a problem was found, or what was asked was refused, or changed nothing
USAGE: Final = 2
UNREACHED: Final = 3  # nobody answers, or does not let us in
MISSING: Final = 4  # there is no such thing


class Trouble(click.ClickException):
    """Ends a command with a message on standard error, and an exit code."""

    def __init__(self, exit_code: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # one class for all kinds
        self.code = code  # what the app calls it, when it is the app that refuses

    def show(self, file: IO[Any] | None = None) -> None:
        """Say it, line by line, each as safe as anything else that comes from a job or a server."""
        for at, line in enumerate(self.message.split("\n")):
            click.echo(f"{'' if at else 'error: '}{safe(line)}", file=file, err=file is None)


class Unreachable(Trouble):
    """Nobody answers, now; later somebody may."""

    def __init__(self, message: str) -> None:
        super().__init__(UNREACHED, message)
