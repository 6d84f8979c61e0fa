"""The SQLite store: one file in WAL mode, one writer thread, a few readers."""

from actor_scheduler.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore"]
