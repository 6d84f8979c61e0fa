"""Loading what a command names as module:name. That runs the module's code, as importing it does."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import traceback
from pathlib import Path
from typing import Any, Final

import actor_scheduler
from actor_scheduler.errors import ActorSchedulerError
from runtime.cli.trouble import REFUSED, USAGE, Trouble
from runtime.http.secrets import InvalidSecret

_TARGET: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)", re.ASCII)
_OURS: Final = (Path(actor_scheduler.__file__).parent, Path(__file__).parents[1])


def load(target: str) -> Any:
    """Import the module of module:name, from the working directory too, and return what has the name. Raises Trouble.

    What the module prints goes to standard error: standard output is the command's own.
    """
    found = _TARGET.fullmatch(target)
    if found is None:
        raise Trouble(USAGE, f"{target!r:.200} is not of the form module:name, such as shop.main:app")
    module, names = found[1], found[2]
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            loaded: Any = importlib.import_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        # A key of the environment that can't be used is no fault of the code.
        exit_code = USAGE if isinstance(error, InvalidSecret) else REFUSED
        raise Trouble(exit_code, f"{module} can't be imported: {_last_of(error, module)}") from None
    for name in names.split("."):
        try:
            loaded = getattr(loaded, name)
        except AttributeError:
            raise Trouble(REFUSED, f"{module} has nothing called {names}") from None
    return loaded


def _last_of(error: BaseException, module: str) -> str:
    """Return an import's error: in one line where it is ours, else with the traceback, without frames that are ours."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None and f"{module}.".startswith(f"{error.name}."):
        return f"there is no module {error.name} in {sys.path[0] or 'the working directory'} or what is installed"
    found = traceback.extract_tb(error.__traceback__)
    frames = [frame for frame in found if not _is_ours(frame.filename) and "importlib" not in frame.filename]
    if isinstance(error, ActorSchedulerError):
        said = "; ".join(line.strip() for line in str(error).split("\n") if line.strip())
        where = f" ({_place(frames[-1])})" if frames else ""
        return f"{type(error).__name__}: {said}{where}"
    return "\n".join([*traceback.format_exception_only(error), *traceback.format_list(frames)]).rstrip()


def _is_ours(file: str) -> bool:
    return any(Path(file).is_relative_to(package) for package in _OURS)


def _place(frame: traceback.FrameSummary) -> str:
    file = Path(frame.filename)
    with contextlib.suppress(ValueError):
        file = file.relative_to(Path.cwd())
    return f"{file}, line {frame.lineno}"
