"""Loading what a command names as module:name. That runs the module's code, as importing it does."""

from __future__ import annotations

import contextlib
import importlib
import re
import sys
import traceback
from typing import Any, Final

from runtime.cli.trouble import REFUSED, USAGE, Trouble

_TARGET: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)", re.ASCII)


def load(target: str) -> Any:
    """Import the module of module:name, from the working directory too, and return what has the name. Raises Trouble.

    What the module prints goes to standard error: standard output is the command's own.
    """
    found = _TARGET.fullmatch(target)
    if found is None:
        raise Trouble(USAGE, f"{target!r:.200} does not read module:name, such as shop.main:app")
    module, names = found[1], found[2]
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        with contextlib.redirect_stdout(sys.stderr):
            loaded: Any = importlib.import_module(module)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        raise Trouble(REFUSED, f"{module} can't be imported: {_last_of(error, module)}") from None
    for name in names.split("."):
        try:
            loaded = getattr(loaded, name)
        except AttributeError:
            raise Trouble(REFUSED, f"{module} has nothing called {names}") from None
    return loaded


def _last_of(error: BaseException, module: str) -> str:
    """Return an import's error, with the lines of the traceback that are not the import's own."""
    if isinstance(error, ModuleNotFoundError) and error.name is not None and f"{module}.".startswith(f"{error.name}."):
        return f"there is no module {error.name} in {sys.path[0] or 'the working directory'} or what is installed"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    lines = traceback.format_list([frame for frame in frames if frame.filename != __file__])
    return "\n".join([*traceback.format_exception_only(error), *lines]).rstrip()
