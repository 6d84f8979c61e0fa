"""The secrets that open a door: how strong they must be, and how what was given is held against them."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from actor_scheduler.clock import monotonic_us
from actor_scheduler.errors import InvalidArgs
from actor_scheduler.limits import SECOND_US

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

CHARS_MIN: Final = 32  # of `secrets.token_urlsafe(32)`: 43, and 256 bits
CHARS_MAX: Final = 512
ACTIVE_MAX: Final = 8
_DISTINCT_MIN: Final = 10
_PLACEHOLDERS: Final = (
    "changeme", "change-me", "change_me", "default", "development", "example", "password", "placeholder", "replace-me",
    "your-secret", "yoursecret",
)  # fmt: skip
_ADVICE: Final = "make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'"
_LOOK_AGAIN_US: Final = SECOND_US

log = logging.getLogger("actor_scheduler")


class InvalidSecret(InvalidArgs):
    """A secret is missing, too short, or looks like a placeholder: nothing is served behind it."""


class Secrets:
    """The active secrets of one door: the current one and, during a rotation, the next.

    What is given is compared as a SHA-256 digest, in constant time, and always with every active secret.  A secret is
    32 to 512 printable ASCII characters, at most 8 are active at once.  Raises InvalidSecret.
    """

    def __init__(self, *secrets: str, what: str = "the secret") -> None:
        self._what = what
        self._digests: dict[str, bytes] = {}
        self._refresh: Callable[[], None] | None = None
        self._apart_from: list[Secrets] = []
        self.rotate(*secrets)

    def rotate(self, *secrets: str) -> None:
        """Let exactly these be active from now on: first the old and the new, then the new alone.

        Raises InvalidSecret, and then nothing changes.
        """
        found = _digests(secrets, self._what)
        for other in self._apart_from:
            _check_apart(self._what, found, other)
        self._digests = found

    def keep_apart(self, other: Secrets) -> None:
        """Have no secret in common with another door's, now and after a rotation: who may tell the time is no operator.

        Raises InvalidSecret.
        """
        _check_apart(self._what, self._digests, other)
        for one, another in ((self, other), (other, self)):
            if another not in one._apart_from:  # noqa: SLF001 - of the same class
                one._apart_from.append(another)  # noqa: SLF001

    def match(self, given: str | None) -> str | None:
        """Return the id of the active secret that was given, None when it is none of them.

        The work is the same whatever was given.  An id says nothing about its secret; it may stand in logs.
        """
        if self._refresh is not None:
            self._refresh()
        digest = _digest(given if given is not None else "")
        found = None
        for key_id, active in self._digests.items():
            if hmac.compare_digest(digest, active):
                found = key_id
        return found

    def active(self, key_id: str) -> bool:
        """Return whether the secret of this id still opens the door."""
        if self._refresh is not None:
            self._refresh()
        return key_id in self._digests

    def __repr__(self) -> str:
        """Name what they are for, and never what they are."""
        return f"Secrets({self._what}: {', '.join(self._digests)})"

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], *, what: str = "the secret") -> Secrets:
        """Read the active secrets from a private file (mode 0600), one a line; it is read again when it changes.

        A changed file that can't be used is reported in the log, and the secrets before stay active.  Raises
        InvalidSecret.
        """
        watched = _WatchedFile(Path(path), what)
        made = cls(*watched.read(), what=what)
        made._refresh = lambda: watched.refresh(made)
        return made

    @classmethod
    def from_env(cls, name: str, environ: Mapping[str, str] = os.environ) -> Secrets | None:
        """Read `name`, and `name_NEXT` during a rotation, or the file that `name_FILE` names; None when none is set.

        Raises InvalidSecret for one that is set and can't be used.
        """
        file, current, following = (environ.get(f"{name}{suffix}") for suffix in ("_FILE", "", "_NEXT"))
        if file is not None:
            if current is not None or following is not None:
                msg = f"{name}_FILE is set, and {name} too: say it in one place"
                raise InvalidSecret(msg)
            return cls.from_file(file, what=f"{name}_FILE")
        if current is None and following is None:
            return None
        if current is None:
            msg = f"{name}_NEXT is set without {name}"
            raise InvalidSecret(msg)
        return cls(*(secret for secret in (current, following) if secret is not None), what=name)


class _WatchedFile:
    """A file of secrets, and what it looked like when it was last read."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what
        self._seen: tuple[int, int, int] | None = None
        self._looked_us = monotonic_us()

    def read(self) -> Sequence[str]:
        """Return its secrets. Raises InvalidSecret."""
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
            with open(descriptor, encoding="utf-8") as file:  # noqa: PTH123 - what was opened is what is looked at
                found = os.fstat(descriptor)
                if stat.S_IMODE(found.st_mode) & 0o077:
                    msg = f"{self._what}: {self._path} can be read by others; chmod 600 it"
                    raise InvalidSecret(msg)
                text = file.read(ACTIVE_MAX * (CHARS_MAX + 2) + 1)
        except (OSError, UnicodeError) as error:
            msg = f"{self._what}: {self._path} can't be read: {error}"
            raise InvalidSecret(msg) from error
        self._seen = _look(found)
        return [line.strip() for line in text.splitlines() if line.strip()]

    def refresh(self, secrets: Secrets) -> None:
        """Read it again when it has changed; looked at once a second."""
        now_us = monotonic_us()
        if now_us - self._looked_us < _LOOK_AGAIN_US:
            return
        self._looked_us = now_us
        try:
            if _look(self._path.stat()) == self._seen:
                return
            secrets.rotate(*self.read())
        except (OSError, InvalidSecret) as error:
            log.error("%s; the secrets before stay active", error)  # noqa: TRY400 - it says enough
        else:
            log.warning("%s: other secrets are active now: %r", self._what, secrets)


def _look(found: os.stat_result) -> tuple[int, int, int]:
    return found.st_mtime_ns, found.st_size, found.st_ino


def _digests(secrets: Iterable[str], what: str) -> dict[str, bytes]:
    found = {}
    for secret in secrets:
        _check(secret, what)
        found[_key_id(secret)] = _digest(secret)
    if not found:
        msg = f"{what} is missing; {_ADVICE}"
        raise InvalidSecret(msg)
    if len(found) > ACTIVE_MAX:
        msg = f"{what}: at most {ACTIVE_MAX} secrets can be active at once"
        raise InvalidSecret(msg)
    return found


def _check_apart(what: str, digests: Mapping[str, bytes], other: Secrets) -> None:
    if digests.keys() & other._digests.keys():  # noqa: SLF001 - of the same class
        msg = f"{what} has a secret that {other._what} has, too: each door needs its own"  # noqa: SLF001
        raise InvalidSecret(msg)


def _check(secret: object, what: str) -> None:
    """Refuse what is no secret. What was given never stands in the message."""
    if not isinstance(secret, str):
        msg = f"{what} is text, not {type(secret).__name__}"
        raise InvalidSecret(msg)
    if not secret:
        msg = f"{what} is empty; {_ADVICE}"
        raise InvalidSecret(msg)
    if not secret.isascii() or not secret.isprintable() or " " in secret:
        msg = f"{what} has characters that no header can carry: printable ASCII without spaces; {_ADVICE}"
        raise InvalidSecret(msg)
    if not CHARS_MIN <= len(secret) <= CHARS_MAX:
        msg = f"{what} has {len(secret)} characters, and {CHARS_MIN} to {CHARS_MAX} are needed; {_ADVICE}"
        raise InvalidSecret(msg)
    if len(set(secret)) < _DISTINCT_MIN or any(word in secret.lower() for word in _PLACEHOLDERS):
        msg = f"{what} looks like a placeholder; {_ADVICE}"
        raise InvalidSecret(msg)


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def _key_id(secret: str) -> str:
    return hashlib.sha256(b"key id\0" + secret.encode()).hexdigest()[:8]
