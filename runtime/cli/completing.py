"""Completion of what an app knows: names of crons and pools, paths of functions, ids of jobs.

One question, a second for all of it; whatever goes wrong, nothing is completed, said, or asked of the person.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

from runtime.cli.client import Reach, World, connect
from runtime.cli.keys import KEY, KEY_FILE
from runtime.cli.text import safe, short

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem[str]]]

_PATIENCE_SECONDS: Final = 1.0
_NAMES_MAX: Final = 100
_JOBS_MAX: Final = 20  # of the newest ones
_HELP_CHARS: Final = 60
_STATES_OF: Final = {"cancel": "pending", "retry": "failed", "promote": "pending"}
_ENDED: Final = ("success", "failed", "canceled")


def crons(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """Complete the name of a cron."""
    return _named(_asked(context, "crons", prefix=typed or None, limit=_NAMES_MAX), "name", typed)


def pools(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """Complete the name of a pool."""
    return _named(_asked(context, "pools"), "name", typed)


def functions(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """Complete the path of a function."""
    return _named(_asked(context, "functions"), "path", typed)


def jobs(context: click.Context, _: click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """Complete the id of a new job, one that the command can do something to."""
    action = context.info_name or ""
    state = "in_progress" if context.params.get("running") else _STATES_OF.get(action)
    found = _asked(context, "jobs", state=state, limit=_NAMES_MAX if action == "drop" else _JOBS_MAX)
    fit = [job for job in found if action != "drop" or job.get("state") in _ENDED]
    return _named(fit[:_JOBS_MAX], "id", typed, lambda job: f"{job.get('state')} {job.get('path')}")


def _named(
    items: list[dict[str, Any]], field: str, typed: str, told: Callable[[dict[str, Any]], str] | None = None
) -> list[CompletionItem[str]]:
    """Return what begins as typed. A name that does not print can't be typed, and one with a dash is an option."""
    names = [(str(item.get(field, "")), item) for item in items]
    return [
        CompletionItem(name, help=None if told is None else safe(short(told(item), _HELP_CHARS)))
        for name, item in names
        if name.startswith(typed) and safe(name) == name and not name.startswith("-")
    ]


def _asked(context: click.Context, path: str, **query: Any) -> list[dict[str, Any]]:
    """Return the items at a path of the app that the words before name; none when there is no answer in time."""
    given = {name: context.params.get(name) for name in ("url", "db", "key_file", "insecure_http")}
    in_sight = given["key_file"] or ("" if KEY in os.environ else os.environ.get(KEY_FILE, ""))
    if given["db"] is not None or in_sight == "-":
        return []  # a file would be opened, and standard input is the person's
    reach = Reach(
        url=given["url"],
        key_file=given["key_file"],
        insecure_http=bool(given["insecure_http"]),
        seconds=_PATIENCE_SECONDS,
    )
    world = context.find_object(World) or World()
    found: list[dict[str, Any]] = []

    async def ask() -> None:
        async with asyncio.timeout(_PATIENCE_SECONDS), connect(reach, world) as client:
            items = (await client.get(path, **query))["items"]
        found.extend(item for item in items if isinstance(item, dict))

    def run() -> None:
        with contextlib.suppress(Exception):  # silent, whatever it is
            asyncio.run(ask())

    # A thread that nobody waits for: a name server that does not answer can't be interrupted.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(_PATIENCE_SECONDS)
    return [] if thread.is_alive() else found


# ------------------------------------------------------------------ bash


class Bash(BashComplete):
    """bash's completion, with what click's lacks: words with a colon in them, and names that bash would take apart.

    A name is anybody's text.  Every character of it that means something to bash is escaped, so it stays one word.
    """

    source_template: ClassVar[str] = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=',' read -r type value; do
        case $type in
            dir) COMPREPLY=(); compopt -o dirnames ;;
            file) COMPREPLY=(); compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_WORDS="${COMP_LINE:0:$COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
    return 0
}
%(complete_func)s_setup() {
    complete -o nosort -F %(complete_func)s %(prog_name)s
}
%(complete_func)s_setup;
"""
    _cut = 0  # characters of the last word that stand before what bash takes for a word

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one that is typed, and it; bash itself takes a colon for the end of a word."""
        line = os.environ["COMP_WORDS"]
        words = split_arg_string(line)
        last = words.pop() if words and (not line[-1:].isspace() or line.endswith("\\ ")) else ""
        value = last.partition("=")[2] if last.startswith("-") and "=" in last else last
        if ":" in os.environ.get("COMP_WORDBREAKS", ""):
            self._cut = value.rfind(":") + 1
        return words[1:], last

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Return a completion as the script reads it, and as bash takes it."""
        value = str(item.value)
        return f"{item.type},{_escaped(value[self._cut :]) if item.type == 'plain' else value}"


def _escaped(value: str) -> str:
    return re.sub(r"([\x00-\x7f])(?<![A-Za-z0-9_@%+=:,./-])", r"\\\1", value)


add_completion_class(Bash)
