"""Nonces that a seed decides, so that a test gives the same ids every time."""

from __future__ import annotations

import random


class SeededNonces:
    """Return a stream of signed 64-bit numbers, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - for tests: a seed must decide it

    def __call__(self) -> int:
        """Return the next one."""
        return self._random.getrandbits(64) - (1 << 63)
