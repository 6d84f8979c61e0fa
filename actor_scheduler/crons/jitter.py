"""The jitter of a cron's ticks: chance that is the same in every process and after every restart. Pure."""

from __future__ import annotations

from hashlib import blake2b

_BITS = 64


def jitter_us(name: str, tick_us: int, jitter_us: int, next_tick_us: int | None) -> int:
    """Return how long after its tick a cron fires: from 0 up to, not including, `jitter_us` and the next tick.

    A hash of the cron's name and the tick decides, spread evenly over that span.  So a tick fires at one moment however
    often it is asked for, ticks fire in their order, and crons that share a tick do not all fire at once.
    """
    span_us = jitter_us if next_tick_us is None else min(jitter_us, next_tick_us - tick_us)
    if span_us <= 0:
        return 0
    seed = f"{tick_us} {name}".encode("utf-8", "surrogatepass")  # the tick first: a number ends at the blank
    return int.from_bytes(blake2b(seed, digest_size=_BITS // 8).digest()) * span_us >> _BITS
