"""What one life of a child asks for, drawn from a seed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final, NamedTuple

from tests.crash import crons
from tests.crash.history import Ask, Body, Do, Kind

_DELAYS_US: Final = (0, 0, 0, 1_000, 3_000, 8_000, 20_000, 40_000, 300_000)
_SHARED_KEYS: Final = ("a", "b", "c")
_FAIL: Final = 0.2
_LANES: Final = ("lane-1", "lane-2", "lane-3")
_TIMEOUT_US: Final = 8_000
_MIX: Final = {
    "schedule": 22, "once": 12, "shared_key": 9, "many": 8, "live": 16, "live_once": 8, "cancel": 12,
    "key_then_cancel": 6, "get": 7, "wait": 4,
}  # fmt: skip
_RICH_MIX: Final = {**_MIX, "drop": 5, "pool": 4}
_CRON_MIX: Final = {
    "register": 5, "register_inside": 5, "unregister": 4, "reschedule": 3, "pause": 2, "resume": 3, "run_cron": 3,
    "dispatch": 3, "drop": 9,
}  # fmt: skip


class Sleeper(NamedTuple):
    """How long an action sleeps, and how long it goes on when it is canceled."""

    nap_us: int
    stubborn_us: int = 0


class Workload:
    """Draws calls. `prefix` makes their names unique over all lives of a file."""

    def __init__(
        self,
        rng: random.Random,
        prefix: str,
        targets: list[str],
        only: str | None = None,
        *,
        sleepers: Sequence[Sleeper] = (),
        brief: Sequence[str] = (),
        rich: bool = False,
        cron_names: list[str] | None = None,
    ) -> None:
        self._rng = rng
        self._prefix = prefix
        self._count = 0
        self._only = only
        self._sleepers = sleepers
        self._brief = brief  # ids of jobs that may be dropped
        self._rich = rich
        self._crons = cron_names  # names of those that were registered; None: there are no crons
        self._targets = targets  # ids that may be canceled or looked up; whoever learns of one adds it

    def next(self) -> list[Ask]:
        """Return the next call, or a few that belong together, to be sent one after the other."""
        op = f"{self._prefix}.{self._count}"
        self._count += 1
        mix = {**(_RICH_MIX if self._rich else _MIX), **(_CRON_MIX if self._crons is not None else {})}
        name = self._only or self._rng.choices(list(mix), list(mix.values()))[0]
        draw: Callable[[str], list[Ask]] = getattr(self, f"_{name}")
        return draw(op)

    def _body(self, op: str, *, deep: bool = True, fails: bool = True) -> Body:
        rng = self._rng
        kind: Kind = "mutation" if rng.random() < 0.65 else "action"
        sleeper = rng.choice(self._sleepers) if self._sleepers and kind == "action" else None
        children = tuple(self._body(f"{op}/{at}", deep=False) for at in range(rng.choice((0, 0, 1, 3)) if deep else 0))
        return Body(
            op,
            kind=kind,
            fail=fails and rng.random() < _FAIL,
            delay_us=rng.choice(_DELAYS_US),
            children=children,
            nested=self._nested(op) if deep and kind == "mutation" and rng.random() < 0.15 else None,
            cancel=self._target() if deep and kind == "mutation" and rng.random() < 0.15 else None,
            writes=kind == "action" and rng.random() < 0.6,
            **{**(sleeper._asdict() if sleeper is not None else {}), **(self._more(kind) if self._rich else {})},
        )

    def _more(self, kind: Kind) -> dict[str, Any]:
        """Draw what a job may have beside its work."""
        rng, more = self._rng, dict[str, Any]()
        if rng.random() < 0.3:
            more |= {"tries": rng.choice((2, 3, 4)), "flaky": rng.choice((0, 1, 1, 2, 3))}
        if rng.random() < 0.25:
            more["lane"] = rng.choice(_LANES)
        if kind == "action" and rng.random() < 0.1:
            more |= {"timeout_us": _TIMEOUT_US, "nap_us": 10 * _TIMEOUT_US}
        return more

    def _nested(self, op: str) -> Body:
        return Body(f"{op}/n", fail=True, children=(self._body(f"{op}/n/0", deep=False),))

    def _mutation(self, op: str, *, fails: bool) -> Body:
        children = tuple(self._body(f"{op}/{at}", deep=False) for at in range(self._rng.choice((0, 1, 2))))
        fail = fails and self._rng.random() < 2 * _FAIL
        return Body(op, fail=fail, children=children, nested=self._nested(op) if self._rng.random() < 0.15 else None,
                    cancel=self._target() if self._rng.random() < 0.15 else None)  # fmt: skip

    def _target(self) -> str | None:
        return self._rng.choice(self._targets[-12:]) if self._targets else None

    # ------------------------------------------------------------ calls

    def _schedule(self, op: str) -> list[Ask]:
        if self._rich and self._rng.random() < 0.15:
            body = self._body(op, deep=False, fails=False)
            return [Ask(op, "schedule", (replace(body, brief=True, lane=None, flaky=0),))]
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
        bodies = tuple(self._body(f"{op}-{at}", deep=False) for at in range(self._rng.choice((2, 4, 12))))
        return [Ask(op, "many", bodies)]

    def _live(self, op: str) -> list[Ask]:
        return [Ask(op, "live", (self._mutation(op, fails=True),))]

    def _live_once(self, op: str) -> list[Ask]:
        ask = Ask(op, "live", (self._mutation(op, fails=False),), idem=f"once-{op}")
        return [ask] if self._rng.random() < 0.7 else [ask, ask]

    def _cancel(self, op: str) -> list[Ask]:
        target = self._target()
        running = self._rich and self._rng.random() < 0.5
        return [Ask(op, "cancel", target=target, running=running)] if target is not None else self._schedule(op)

    def _key_then_cancel(self, op: str) -> list[Ask]:
        key = f"key-{op}"
        return [Ask(op, "schedule", (self._body(op),), key=key), Ask(f"{op}c", "cancel", target_key=key)]

    def _drop(self, op: str) -> list[Ask]:
        return [Ask(op, "drop", target=self._rng.choice(self._brief[-4:]))] if self._brief else self._schedule(op)

    def _pool(self, op: str) -> list[Ask]:
        return [Ask(op, "pool", value=self._rng.choice((1, 2, 5, 7)))]

    def _get(self, op: str) -> list[Ask]:
        target = self._target()
        return [Ask(op, "get", target=target)] if target is not None else self._schedule(op)

    def _wait(self, op: str) -> list[Ask]:
        target = self._target()
        return [Ask(op, "wait", target=target)] if target is not None else self._schedule(op)

    # ------------------------------------------------------------ crons

    def _register(self, op: str) -> list[Ask]:
        end = self._rng.choice((crons.ONCE, crons.GONE, crons.KEPT))
        # Only what stays is sent again: the others may have been deleted meanwhile.
        return [Ask(op, "register", cron=op + end, idem=f"once-{op}" if end == crons.KEPT else None)]

    def _register_inside(self, op: str) -> list[Ask]:
        if self._rng.random() < 0.6:
            name = op + self._rng.choice((crons.ONCE, crons.KEPT))
            return [Ask(op, "live", (Body(op, fail=self._rng.random() < 0.5, registers=name),))]
        # Not one that deletes itself: an action's next attempt would register it again.
        return [Ask(op, "schedule", (replace(self._body(op, deep=False), registers=op + crons.KEPT),))]

    def _unregister(self, op: str) -> list[Ask]:
        return self._about("unregister", op, self._known(crons.GONE))

    def _reschedule(self, op: str) -> list[Ask]:
        return self._about("reschedule", op, self._known(crons.GONE), self._rng.choice((100_000, 150_000, 333_333)))

    def _pause(self, op: str) -> list[Ask]:
        return self._about("pause", op, [*crons.STEADY, *self._known(crons.KEPT)])

    def _resume(self, op: str) -> list[Ask]:
        return self._about("resume", op, [*crons.STEADY, *self._known(crons.KEPT)])

    def _run_cron(self, op: str) -> list[Ask]:
        return self._about("run_cron", op, [*crons.STEADY, *self._known(crons.KEPT)])

    def _dispatch(self, op: str) -> list[Ask]:
        return self._about("dispatch", op, [crons.OUTSIDE])

    def _known(self, end: str) -> list[str]:
        return [name for name in (self._crons or ())[-12:] if name.endswith(end)]

    def _about(self, do: Do, op: str, names: Sequence[str], value: int | None = None) -> list[Ask]:
        return [Ask(op, do, cron=self._rng.choice(names), value=value)] if names else self._register(op)
