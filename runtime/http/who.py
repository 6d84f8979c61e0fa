"""Who passed a door of the surface, and which doors there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["read", "operate", "dispatch"]
Door: TypeAlias = Literal["open", "rpc", "dispatch", "read", "operate", "login", "page"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Who:
    """Who passed a door: with which secret (its id), how it was shown, and from where."""

    role: Role
    key_id: str
    via: Literal["bearer", "session", "gateway"]
    peer: str
    session: str | None = None  # the digest of its id
