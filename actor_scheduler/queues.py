"""Which dispatch queue a job waits in, and what bounds how many of a queue run.

A queue's name is its base and, when it is not 0, its priority: `action`, `pool:mail`, `fn:mail:send#5`.  A base is

* `cron`: the crons themselves; what is due in it is a tick;
* `mutation`: mutations are not bounded, they run one after the other on the writer;
* `action`: actions without limits of their own;
* `pool:NAME`: actions of a pool; `fn:PATH`: of a function with a concurrency of its own; `rate:PATH`: with a rate.

So that what is full or paused never hides another queue's due work, everything with limits of its own waits apart.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from actor_scheduler.errors import InvalidArgs
from actor_scheduler.limits import PRIORITY_MAX, RATE_MAX, SECOND_US
from actor_scheduler.model import ACTIONS, CRONS, MUTATIONS, Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

PARKED: Final = "~"  # before the queue of a job that waits for its turn in a lane
SLOTS: Final = "slots"  # the gate every action passes: how many run at once in the whole app

_RATE: Final = re.compile(r"([1-9][0-9]{0,4})/([1-9][0-9]{0,4})?([smhd])", re.ASCII)
_PERIODS_US: Final = {"s": SECOND_US, "m": 60 * SECOND_US, "h": 3600 * SECOND_US, "d": 86_400 * SECOND_US}


class Rate(NamedTuple):
    """At most `starts` in any span of `period_us`."""

    starts: int
    period_us: int


Limit: TypeAlias = "int | Rate"


class Routing(NamedTuple):
    """Where jobs wait, and what bounds them: what the functions of an app ask for.

    `bases` has each path (aliases too) whose jobs wait apart; `passes` the gates each base passes beside SLOTS; `gates`
    each gate's limit.
    """

    bases: Mapping[str, str]
    passes: Mapping[str, tuple[str, ...]]
    gates: Mapping[str, Limit]

    def queue(self, path: str, kind: Kind, priority: int = 0) -> str:
        """Return the queue in which jobs of this path, kind and priority wait."""
        base = MUTATIONS if kind == "mutation" else self.bases.get(path, ACTIONS)
        return f"{base}#{priority}" if priority else base


PLAIN: Final = Routing({}, {}, {})


def base_of(queue: str) -> str:
    """Return a queue's base: its name without the priority."""
    return queue.partition("#")[0]


def priority_of(queue: str) -> int:
    """Return a queue's priority; 0 for a name that has none, or that no release ever gave."""
    text = queue.partition("#")[2]
    try:
        return min(max(int(text), -PRIORITY_MAX), PRIORITY_MAX) if text else 0
    except ValueError:
        return 0


def holds_mutations(queue: str) -> bool:
    """Whether the jobs of a queue are mutations."""
    return base_of(queue) == MUTATIONS


def holds_actions(queue: str) -> bool:
    """Whether the jobs of a queue are actions."""
    return base_of(queue) not in (MUTATIONS, CRONS)


def parse_rate(text: object) -> Rate:
    """Return a rate such as "10/s", "100/m", "5/30s" or "1000/h". Raises InvalidArgs."""
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    if found is None or int(found[1]) > RATE_MAX:
        msg = f'rate reads "10/s", "100/m", "5/30s", "1000/h": at most {RATE_MAX} per period, not {text!r:.40}'
        raise InvalidArgs(msg)
    return Rate(int(found[1]), int(found[2] or 1) * _PERIODS_US[found[3]])


def check_priority(priority: object) -> int:
    """Return a priority that fits. Raises InvalidArgs."""
    if type(priority) is not int or not -PRIORITY_MAX <= priority <= PRIORITY_MAX:
        msg = f"priority must be a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}, not {priority!r:.40}"
        raise InvalidArgs(msg)
    return priority
