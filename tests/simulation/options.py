"""What one seed is like: drawn once, printed whole when it fails.

Swarm testing: a seed has some faults and lacks the others altogether, so that what one fault hides another seed shows.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields, replace
from typing import Final

# Every fault that the store can have, with the span its rate is drawn from: per statement of the kind it concerns.
STORE_FAULTS: Final = {
    "busy at begin": (0.01, 0.15),
    "I/O error at begin": (0.005, 0.04),
    "commit lost": (0.005, 0.06),  # an error, and nothing committed
    "commit kept": (0.005, 0.06),  # an error, and everything committed
    "commit busy": (0.01, 0.08),
    "commit full": (0.01, 0.08),
    "rollback fails": (0.02, 0.2),
    "disk full": (0.002, 0.02),  # a statement that writes, alone
    "transaction lost": (0.002, 0.02),  # a statement ends the whole transaction by itself
    "interrupted": (0.002, 0.02),  # the same, as an interrupt does it
    "I/O error": (0.001, 0.01),
    "reading fails": (0.005, 0.05),
    "opening fails": (0.02, 0.15),
    "delay": (0.02, 0.3),  # of a hop to the database
    "late answer": (0.02, 0.3),  # of a hop that has done its work
}
CRASHES: Final = ("before a call", "after a call", "at a point", "between passes")
SPELLS: Final = {"spell: disk full": 0.5, "spell: file can't be opened": 0.2}  # rates: per life
_HEAVY: Final = 0.07  # of the seeds of a heavy campaign have thousands of jobs
STEPS: Final = ("step forward", "step back", "suspend")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The options of a seed."""

    seed: int
    lives: int  # that end before the last one
    clients: int
    calls: int  # of one client in one life
    order: str  # of the event loop's ready queue
    window_max: int
    slots: int
    auth: bool  # due mutations are prepared on the loop
    spread: str  # how far apart things are
    rated: bool  # some actions have a rate
    laned: float  # share of jobs that are in a lane
    ranked: float  # share of jobs with a priority
    bulk: int  # light jobs of the first life
    bulk_at_last: int  # light jobs of the last one, for the number of fires
    slow_us: int  # real work of the store takes up to this long between two looks at its budget
    rates: dict[str, float] = field(default_factory=dict)
    crashes: tuple[str, ...] = ()
    spells: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    early: float = 0.0
    late: float = 0.0
    crons: int = 0

    def text(self) -> str:
        """Return every option, for whoever has to understand a failure."""
        return "\n".join(f"  {item.name} = {getattr(self, item.name)!r}" for item in fields(self))


def draw(seed: int, *, heavy: bool = False) -> Options:
    """Return the options of a seed; with `heavy` some have thousands of jobs, for many fires."""
    rng = random.Random(f"options {seed}")
    share = rng.choice((0.0, 0.2, 0.4, 0.7))  # of the faults that this seed has
    rates = {name: round(rng.uniform(*span), 4) for name, span in STORE_FAULTS.items() if rng.random() < share}
    drawn = Options(
        seed=seed,
        lives=rng.choice((0, 1, 1, 1, 2)),
        clients=rng.randint(1, 3),
        calls=rng.randint(2, 7),
        order=rng.choice(("fifo", "shuffle", "lag")),
        window_max=rng.choice((2, 3, 5, 16, 50_000)),
        slots=rng.choice((1, 2, 5, 100)),
        auth=rng.random() < 0.25,
        spread=rng.choice(("none", "seconds", "hours", "months", "years")),
        rated=rng.random() < 0.25,
        laned=rng.choice((0.0, 0.0, 0.1, 0.6)),
        ranked=rng.choice((0.0, 0.0, 0.3)),
        bulk=rng.choice((0, 0, 20, 80)),
        bulk_at_last=rng.choice((0, 40)),
        slow_us=rng.choice((0, 0, 0, 3_000, 20_000)),
        rates=rates,
        crashes=tuple(kind for kind in CRASHES if rng.random() < 0.6),
        spells=tuple(kind for kind in SPELLS if rng.random() < share / 2),
        steps=tuple(kind for kind in STEPS if rng.random() < share),
        early=rng.choice((0.0, 0.0, 0.1, 0.5)),
        late=rng.choice((0.0, 0.0, 0.1, 0.5)),
        crons=rng.choice((0, 0, 0, 1, 2, 3)),
    )
    if not heavy or rng.random() > _HEAVY:
        return drawn
    return replace(drawn, bulk=drawn.bulk * 5, bulk_at_last=rng.randint(2_000, 4_000))
