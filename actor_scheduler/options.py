"""What a caller may say of a job beside what and when: checked here, at once."""

from __future__ import annotations

from typing import Any, Final, get_args

from actor_scheduler import codec
from actor_scheduler.errors import InvalidArgs, storable
from actor_scheduler.limits import KEY_CHARS_MAX, NOTE_CHARS_MAX, TEXT_CHARS_MAX
from actor_scheduler.model import JobOptions, OnConflict
from actor_scheduler.queues import check_priority
from actor_scheduler.retry import retry_policy
from actor_scheduler.times import timeout_us

_OPTIONS: Final = frozenset(JobOptions.__annotations__)
_ON_CONFLICT: Final = frozenset(get_args(OnConflict))


def check_options(options: JobOptions) -> dict[str, Any]:
    """Return what the options make of a job, once they are known and fit. Raises InvalidArgs, InvalidTime."""
    unknown = options.keys() - _OPTIONS
    if unknown:
        msg = f"unknown job option(s) {sorted(unknown)}; known are {sorted(_OPTIONS)}"
        raise InvalidArgs(msg)
    chosen: dict[str, Any] = dict(options)
    for name in ("key", "idempotency_key", "lane"):
        if name in chosen:
            check_key(chosen[name], name)
    if "on_conflict" in chosen:
        if not isinstance(chosen["on_conflict"], str) or chosen["on_conflict"] not in _ON_CONFLICT:
            msg = f"on_conflict must be one of {sorted(_ON_CONFLICT)}, not {chosen['on_conflict']!r}"
            raise InvalidArgs(msg)
        if "key" not in chosen:
            msg = "on_conflict says what a second job under the same key does: give key=… too"
            raise InvalidArgs(msg)
    if "priority" in chosen:
        check_priority(chosen["priority"])
    if "timeout" in chosen:
        chosen["timeout_us"] = timeout_us(chosen.pop("timeout"))
    if "retry" in chosen:
        chosen["retry"] = codec.encode(retry_policy(chosen["retry"]).to_plain())
    return chosen


def check_key(value: object, name: str) -> None:
    """Raise InvalidArgs unless a key is a str that can be stored, of 1 to KEY_CHARS_MAX characters."""
    if not (isinstance(value, str) and 0 < len(value) <= KEY_CHARS_MAX and storable(value) == value):
        msg = f"{name} must be a str of 1 to {KEY_CHARS_MAX} characters, not {value!r:.80}"
        raise InvalidArgs(msg)


def check_id(job_id: object) -> None:
    """Raise InvalidArgs unless a job id is a str; whether there is such a job is another question."""
    if not isinstance(job_id, str):
        msg = f"a job id is a str, not {type(job_id).__name__}"
        raise InvalidArgs(msg)


def check_text(text: object) -> None:
    """Raise InvalidArgs unless what is searched for is a str that can be stored, of 1 to TEXT_CHARS_MAX characters."""
    if not (isinstance(text, str) and 0 < len(text) <= TEXT_CHARS_MAX and storable(text) == text):
        msg = f"text must be a str of 1 to {TEXT_CHARS_MAX} characters, not {text!r:.80}"
        raise InvalidArgs(msg)


def check_note(note: object) -> None:
    """Raise InvalidArgs unless a note is a str that can be stored, of at most NOTE_CHARS_MAX characters."""
    if not (isinstance(note, str) and len(note) <= NOTE_CHARS_MAX and storable(note) == note):
        msg = f"a note is a str of at most {NOTE_CHARS_MAX} characters, not {note!r:.80}"
        raise InvalidArgs(msg)
