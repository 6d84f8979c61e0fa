"""The key that a running app is asked with, and where it may be sent. It never stands in a command."""

from __future__ import annotations

import ipaddress
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

import httpx

from runtime.cli.trouble import UNREACHED, USAGE, Trouble

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY: Final = "ACTOR_SCHEDULER_KEY"
KEY_FILE: Final = "ACTOR_SCHEDULER_KEY_FILE"
DEPLOY_KEY: Final = "ACTOR_SCHEDULER_DEPLOY_KEY"
URL: Final = "ACTOR_SCHEDULER_URL"
_CHARS_MAX: Final = 4_096


def read_key(key_file: str | None, environ: Mapping[str, str]) -> str:
    """Return the key: from the file that was named, else from the environment. Raises Trouble.

    In the environment: the key itself, a private file that holds it, or the server's own deploy key.
    """
    if key_file is not None:
        return _of_file(key_file)
    if KEY in environ:
        return _checked(environ[KEY], KEY)
    if KEY_FILE in environ:
        return _of_file(environ[KEY_FILE])
    if DEPLOY_KEY in environ:
        return _checked(environ[DEPLOY_KEY], DEPLOY_KEY)
    msg = f"a key is needed: set {KEY}, or name a private file that holds it with --key-file or {KEY_FILE}"
    raise Trouble(UNREACHED, msg)


def _of_file(name: str) -> str:
    """Return the first line of a private file; "-" is standard input."""
    if name == "-":
        return _checked(sys.stdin.readline(_CHARS_MAX), "standard input")
    try:
        # Not blocking: a pipe without a writer must not keep the command waiting.
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
        with open(descriptor, encoding="utf-8", errors="replace") as file:  # noqa: PTH123 - what was opened is looked at
            _check_private(name, os.fstat(descriptor))
            text = file.read(_CHARS_MAX)
    except OSError as error:
        raise Trouble(USAGE, f"the key file {name} can't be read: {error.strerror}") from None
    return _checked(text.partition("\n")[0], f"the key file {name}")


def _check_private(name: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise Trouble(USAGE, f"the key file {name} is not a regular file")
    if stat.S_IMODE(found.st_mode) & 0o177:
        mode = stat.S_IMODE(found.st_mode)
        raise Trouble(USAGE, f"the key file {name} has mode {mode:04o}, so others may read it: chmod 600 it")
    if hasattr(os, "geteuid") and found.st_uid != os.geteuid():
        raise Trouble(USAGE, f"the key file {name} belongs to user {found.st_uid}, and not to you")


def _checked(key: str, where: str) -> str:
    """Return a key that a header can carry. What it is never stands in a message."""
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise Trouble(USAGE, f"{where} holds no key: a key is printable ASCII without spaces")
    return key


def check_url(text: str, *, insecure_http: bool) -> httpx.URL:
    """Return where an app is reached. Raises Trouble where a key must not be sent: in the clear over a network."""
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, ValueError):
        raise Trouble(USAGE, f"{text!r:.200} is not the URL of an app") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise Trouble(USAGE, f"{text!r:.200} is not the URL of an app, such as https://host or http://127.0.0.1:8000")
    if url.userinfo or url.query or url.fragment:
        raise Trouble(USAGE, f"the URL must have a host and a path only; the key comes from {KEY} or a file")
    if url.scheme == "http" and not insecure_http and not is_loopback(url.host):
        msg = f"{url.host} would get the key in the clear: use https, or --insecure-http where nobody else listens"
        raise Trouble(USAGE, msg)
    return url


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine, by its name alone."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
