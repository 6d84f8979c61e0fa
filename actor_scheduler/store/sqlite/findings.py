"""What an examination collects: facts, and problems with what to do about them."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias

Severity: TypeAlias = Literal["error", "warning", "note"]

_GRAVITY: Final[dict[Severity, int]] = {"error": 0, "warning": 1, "note": 2}
_SHOWN_CHARS: Final = 300
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class Problem(NamedTuple):
    """What is wrong, or may become so: an `error` stops an app, a `warning` will hurt, a `note` is good to know."""

    severity: Severity
    what: str
    do: str


class Findings:
    """Collects; every text that comes in is made printable, for it may come from the file."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.jobs: dict[str, int] = {}
        self._problems: list[Problem] = []

    def fact(self, name: str, text: str) -> None:
        """Note a fact."""
        self.facts[name] = shown(text)

    def error(self, what: str, do: str) -> None:
        """Note what stops an app."""
        self._add("error", what, do)

    def warning(self, what: str, do: str) -> None:
        """Note what will hurt."""
        self._add("warning", what, do)

    def note(self, what: str, do: str) -> None:
        """Note what is good to know."""
        self._add("note", what, do)

    def _add(self, severity: Severity, what: str, do: str) -> None:
        self._problems.append(Problem(severity, shown(what), shown(do)))

    def add(self, other: Findings) -> None:
        """Take over what another examination found."""
        self.facts.update(other.facts)
        self.jobs.update(other.jobs)
        self._problems.extend(other._problems)

    def gravest_first(self) -> tuple[Problem, ...]:
        """Return the problems, errors before warnings before notes, otherwise in the order they were found."""
        return tuple(sorted(self._problems, key=lambda problem: _GRAVITY[problem.severity]))


def shown(value: Any) -> str:
    """Return a value of a file in one printable line: no character in it moves a cursor or turns the text round."""
    text = "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in str(value))
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}…"


def shown_bytes(count: int) -> str:
    """Return a size as people say it."""
    for bits, unit in ((30, "GiB"), (20, "MiB")):
        if count >= 1 << bits:
            return f"{count / (1 << bits):.1f} {unit}"
    return f"{count / 1024:.1f} KiB"


def shown_span(span_us: int) -> str:
    """Return a span of time in its two largest units."""
    seconds = max(span_us, 0) // 1_000_000
    parts: list[str] = []
    for size, unit in _UNITS:
        if seconds >= size or (unit == "s" and not parts):
            parts.append(f"{seconds // size} {unit}")
            seconds %= size
    return " ".join(parts[:2])
