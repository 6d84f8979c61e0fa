"""A module that can't be imported."""

from __future__ import annotations

msg = "not \x1b[2J today"
raise RuntimeError(msg)
