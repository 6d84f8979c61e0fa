"""What the simulated clients ask for, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from tests.proof.history import ALWAYS, Ask, Body
from tests.simulation.loop import SECOND_US

if TYPE_CHECKING:
    from tests.simulation.options import Options

_DAY_US: Final = 86_400 * SECOND_US
_SPREADS: Final = {
    "none": (0, 1),
    "seconds": (0, 0, 1, 1_000, SECOND_US, 5 * SECOND_US, 60 * SECOND_US),
    "hours": (0, SECOND_US, 60 * SECOND_US, 3_600 * SECOND_US, 5 * 3_600 * SECOND_US),
    "months": (0, SECOND_US, _DAY_US, 30 * _DAY_US, 100 * _DAY_US),
    "years": (0, SECOND_US, _DAY_US, 300 * _DAY_US, 1_500 * _DAY_US),
}
_LANES: Final = ("left", "right")
_SHARED_KEYS: Final = ("a", "b")
_FAIL: Final = 0.2
_MIX: Final = {
    "schedule": 24, "once": 12, "shared_key": 9, "many": 8, "live": 14, "live_once": 8, "live_action": 3, "cancel": 14,
    "key_then_cancel": 6, "get": 6, "retry": 4, "count": 2,
    "pause": 1, "pool": 1, "race": 4, "stop": 5, "lane_between": 3,
}  # fmt: skip


class Workload:
    """Draws calls. `prefix` makes their names unique over all lives of a file."""

    def __init__(self, options: Options, rng: random.Random, prefix: str, targets: list[str]) -> None:
        self._rng = rng
        self._prefix = prefix
        self._number = 0
        self._targets = targets  # ids that may be canceled or looked up; whoever learns of one adds it
        self._delays = _SPREADS[options.spread]
        self._places = ("", "", "pool", "single", *(("rate", "rate") if options.rated else ()))
        self._laned, self._ranked = options.laned, options.ranked

    def next(self) -> list[Ask]:
        """Return the next call, or a few that belong together, to be sent one after the other."""
        op = f"{self._prefix}.{self._number}"
        self._number += 1
        name = self._rng.choices(list(_MIX), list(_MIX.values()))[0]
        draw: Callable[[str], list[Ask]] = getattr(self, f"_{name}")
        return draw(op)

    def pause_us(self) -> int:
        """Return how long a client waits before its next call."""
        return self._rng.choice(self._delays) if self._rng.random() < 0.4 else 0

    def bulk(self, number: int) -> list[Ask]:
        """Return light jobs, about `number` runs in all: some at once, some as chains that schedule themselves."""
        asks: list[Ask] = []
        while number > 0:
            op = f"{self._prefix}b{len(asks)}"
            if self._rng.random() < 0.5:
                size = min(self._rng.randint(5, 400), number)
                bodies = tuple(
                    Body(f"{op}-{at}", delay_us=self._rng.choice(self._delays), light=True, kind=self._light_kind())
                    for at in range(size)
                )
                asks.append(Ask(op, "many", bodies))
            else:
                size = min(self._rng.randint(3, 150), number)
                every_us = max(self._rng.choice(self._delays) // size, self._rng.choice((0, 1, 50_000)))
                body = Body(op, light=True, kind=self._light_kind(), chain=size - 1, every_us=every_us)
                asks.append(Ask(op, "schedule", (body,)))
            number -= size
        return asks

    def _light_kind(self) -> str:
        return "mutation" if self._rng.random() < 0.85 else "action"

    def _delay_us(self) -> int:
        return self._rng.choice(self._delays)

    def _body(self, op: str, *, deep: bool = True) -> Body:
        rng = self._rng
        kind = "mutation" if rng.random() < 0.6 else "action"
        children = tuple(self._body(f"{op}/{at}", deep=False) for at in range(rng.choice((0, 0, 1, 3)) if deep else 0))
        return Body(
            op,
            kind=kind,
            fails=self._fails(),
            attempts=rng.choice((1, 1, 2, 4)),
            timeout_us=rng.choice((0, 0, 0, 20 * SECOND_US)) if kind == "action" else 0,
            lane=rng.choice(_LANES) if rng.random() < self._laned else None,
            priority=rng.choice((-5, 5)) if rng.random() < self._ranked else 0,
            place=rng.choice(self._places) if kind == "action" else "",
            delay_us=self._delay_us(),
            children=children,
            nested=self._nested(op) if deep and kind == "mutation" and rng.random() < 0.15 else None,
            cancel=self._target() if deep and kind == "mutation" and rng.random() < 0.15 else None,
            writes=kind == "action" and rng.random() < 0.5,
            nap_us=rng.choice((0, 0, 1_000, SECOND_US, 50 * SECOND_US)) if kind == "action" else 0,
        )

    def _fails(self) -> int:
        return self._rng.choice((1, 2, ALWAYS)) if self._rng.random() < 2 * _FAIL else 0

    def _nested(self, op: str) -> Body:
        return Body(f"{op}/n", fails=ALWAYS, children=(self._body(f"{op}/n/0", deep=False),))

    def _mutation(self, op: str, *, fails: bool) -> Body:
        children = tuple(self._body(f"{op}/{at}", deep=False) for at in range(self._rng.choice((0, 1, 2))))
        fail = ALWAYS if fails and self._rng.random() < 2 * _FAIL else 0
        return Body(op, fails=fail, children=children, nested=self._nested(op) if self._rng.random() < 0.15 else None,
                    cancel=self._target() if self._rng.random() < 0.15 else None)  # fmt: skip

    def _target(self) -> str | None:
        return self._rng.choice(self._targets[-8:]) if self._targets else None

    # ------------------------------------------------------------ calls

    def _schedule(self, op: str) -> list[Ask]:
        return [Ask(op, "schedule", (self._body(op),))]

    def _once(self, op: str) -> list[Ask]:
        ask = Ask(op, "schedule", (self._body(op),), idem=f"once-{op}")
        asks = [ask] if self._rng.random() < 0.7 else [ask, ask]
        if self._rng.random() < 0.2:  # the same key for another call: refused, once the first is there
            asks.append(Ask(f"{op}x", "schedule", (self._body(f"{op}x"),), idem=f"once-{op}"))
        return asks

    def _shared_key(self, op: str) -> list[Ask]:
        on_conflict = self._rng.choice(("keep", "replace", "error"))
        return [Ask(op, "schedule", (self._body(op),), key=self._rng.choice(_SHARED_KEYS), on_conflict=on_conflict)]

    def _many(self, op: str) -> list[Ask]:
        if "rate" in self._places and self._rng.random() < 0.4:
            bodies = tuple(Body(f"{op}-{at}", kind="action", place="rate") for at in range(7))
        else:
            bodies = tuple(self._body(f"{op}-{at}", deep=False) for at in range(self._rng.choice((2, 4, 9))))
        return [Ask(op, "many", bodies)]

    def _live(self, op: str) -> list[Ask]:
        return [Ask(op, "live", (self._mutation(op, fails=True),))]

    def _live_once(self, op: str) -> list[Ask]:
        ask = Ask(op, "live", (self._mutation(op, fails=False),), idem=f"once-{op}")
        return [ask] if self._rng.random() < 0.7 else [ask, ask]

    def _live_action(self, op: str) -> list[Ask]:
        return [Ask(op, "act", (Body(op, kind="action", writes=True, children=(self._body(f"{op}/0", deep=False),)),))]

    def _cancel(self, op: str) -> list[Ask]:
        target = self._target()
        return (
            [Ask(op, "cancel", target=target, running=self._rng.random() < 0.5)]
            if target is not None
            else self._schedule(op)
        )

    def _key_then_cancel(self, op: str) -> list[Ask]:
        key = f"key-{op}"
        return [Ask(op, "schedule", (self._body(op),), key=key), Ask(f"{op}c", "cancel", target_key=key)]

    def _get(self, op: str) -> list[Ask]:
        target = self._target()
        return [Ask(op, "get", target=target)] if target is not None else self._schedule(op)

    def _retry(self, op: str) -> list[Ask]:
        target = self._target()
        return [Ask(op, "retry", target=target)] if target is not None else self._schedule(op)

    def _race(self, op: str) -> list[Ask]:
        """A job, and another one due with it that goes first, and cancels it."""
        delay_us = self._delay_us()
        first = Body(f"{op}c", delay_us=delay_us, priority=5, cancel=f"@{op}")
        kind = self._rng.choice(("mutation", "action"))
        return [Ask(op, "schedule", (Body(op, kind=kind, delay_us=delay_us),)), Ask(first.op, "schedule", (first,))]

    def _stop(self, op: str) -> list[Ask]:
        """An action that would be tried again, and a cancel while it runs."""
        body = Body(op, kind="action", fails=2, attempts=4, nap_us=SECOND_US)
        running = self._rng.random() < 0.5
        return [
            Ask(op, "schedule", (body,)),
            Ask(f"{op}s", "cancel", target=f"@{op}", running=running, after_us=500_000),
        ]

    def _lane_between(self, op: str) -> list[Ask]:
        """An action that is tried again, and others of its lane that come while it waits."""
        lane = f"lane {op}"
        body = Body(op, kind="action", fails=2, attempts=4, lane=lane)
        others = [
            Ask(f"{op}{at}", "schedule", (Body(f"{op}{at}", kind="action", lane=lane),), after_us=SECOND_US)
            for at in (1, 2)
        ]
        return [Ask(op, "schedule", (body,)), *others]

    def _pause(self, op: str) -> list[Ask]:
        """A pause, something that falls due in it, and its end."""
        due = Ask(f"{op}p", "schedule", (Body(f"{op}p", delay_us=SECOND_US // 2),))
        return [Ask(op, "pause"), due, *self._get(f"{op}g"), Ask(f"{op}r", "resume", after_us=SECOND_US)]

    def _pool(self, op: str) -> list[Ask]:
        return [Ask(op, "pool", limit=self._rng.choice((0, 1, None)))]

    def _count(self, op: str) -> list[Ask]:
        return [Ask(op, "count")]
