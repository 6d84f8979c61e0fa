"""Manifests: the versions of what the code defines as crons, and which of them holds. Inside the turn's transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from actor_scheduler.crashpoints import reach
from actor_scheduler.crons.records import CronDiff, Staged
from actor_scheduler.crons.spec import CronSpec, digest
from actor_scheduler.errors import InvalidCron
from actor_scheduler.store.cron_units import ActivateCrons, StageCrons
from actor_scheduler.store.sqlite import cron_rows
from actor_scheduler.store.sqlite.fence import ours

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Container, Iterable, Mapping

    from actor_scheduler.store.sqlite.cron_rows import CronRow
    from actor_scheduler.store.sqlite.crons import CronWriter
    from actor_scheduler.store.sqlite.jobs import JobWriter

_KEPT: Final = 20  # manifests that do not hold any more, the newest

_ACTIVE: Final = ours("SELECT version, digest FROM main._scheduler_manifests WHERE state = 'active'")
_BY_DIGEST: Final = ours("SELECT version, state FROM main._scheduler_manifests WHERE digest = ?")
_STAGE: Final = ours(
    "INSERT INTO main._scheduler_manifests (version, digest, state, definitions, staged_at_us)"
    " SELECT coalesce(max(version), 0) + 1, ?, 'staged', ?, ? FROM main._scheduler_manifests RETURNING version"
)
_STAGE_AGAIN: Final = ours("UPDATE main._scheduler_manifests SET state = 'staged', staged_at_us = ? WHERE version = ?")
_RETIRE: Final = ours("UPDATE main._scheduler_manifests SET state = 'retired' WHERE state = ? AND version <> ?")
_ACTIVATE: Final = ours("UPDATE main._scheduler_manifests SET state = 'active', activated_at_us = ? WHERE version = ?")
_FORGET: Final = ours(
    "DELETE FROM main._scheduler_manifests WHERE version IN (SELECT version FROM main._scheduler_manifests"
    " WHERE state = 'retired' ORDER BY coalesce(activated_at_us, staged_at_us) DESC, version DESC LIMIT -1 OFFSET ?)"
)
_TROUBLED: Final = ours(
    "SELECT 1 FROM main._scheduler_crons INDEXED BY _scheduler_crons_manifest WHERE origin = 'manifest'"
    " AND trouble IS NOT NULL LIMIT 1"
)
_TAKEN: Final = ours("SELECT name FROM main._scheduler_crons WHERE name = ? AND origin = 'runtime'")


class Manifests:
    """Stages and activates what the code defines. At most one manifest holds, and at most one waits."""

    def __init__(self, raw: sqlite3.Connection, jobs: JobWriter, crons: CronWriter) -> None:
        self._raw = raw
        self._jobs = jobs
        self._crons = crons

    def apply(self, unit: StageCrons | ActivateCrons) -> Staged | CronDiff:
        """Stage or activate, and return the answer. Raises InvalidCron, InvalidArgs; nothing is changed then."""
        return self._stage(unit) if isinstance(unit, StageCrons) else self._activate(unit.version)

    def _stage(self, unit: StageCrons) -> Staged:
        """Keep the definitions under a version; the manifest that holds already is not touched.

        One that is to wait says what its activation would change now.
        """
        if unit.now_us is not None:
            self._jobs.now_us = unit.now_us
        hashed = digest(unit.specs)
        active: Any = self._raw.execute(_ACTIVE).fetchone()
        if active is None and not unit.specs:
            return Staged(0, active=True, diff=CronDiff())
        if active is not None and active[1] == hashed:
            self._raw.execute(_RETIRE, ("staged", active[0]))
            troubled = self._mend(unit)
            names = sorted(spec.name for spec in unit.specs if spec.name not in troubled)
            return Staged(active[0], active=True, diff=CronDiff(updated=troubled, unchanged=tuple(names)))
        wanted = {spec.name: spec.encode() for spec in sorted(unit.specs, key=lambda spec: spec.name)}
        there = cron_rows.of_manifest(self._raw)
        self._check_free(wanted, there, " with the release before")
        version = self._keep(unit, hashed)
        reach("manifest.staged")
        if unit.activate:
            self._sync(version, wanted, there)
        return Staged(version, active=unit.activate, diff=_diff(wanted, there))

    def _mend(self, unit: StageCrons) -> tuple[str, ...]:
        """Let those go on that could not, now that the code that defines them is here again; return their names."""
        if self._raw.execute(_TROUBLED).fetchone() is None:
            return ()
        there = cron_rows.of_manifest(self._raw)
        names = {name for name, row in there.items() if row.trouble is not None}
        mended = sorted((spec for spec in unit.specs if spec.name in names), key=lambda spec: spec.name)
        for spec in mended:
            self._crons.change(there[spec.name], spec)
        return tuple(spec.name for spec in mended)

    def _keep(self, unit: StageCrons, hashed: str) -> int:
        now_us = self._jobs.now_us
        known: Any = self._raw.execute(_BY_DIGEST, (hashed,)).fetchone()
        if known is None:
            definitions = cron_rows.encode_definitions(unit.specs)
            version: int = self._raw.execute(_STAGE, (hashed, definitions, now_us)).fetchone()[0]
        else:
            version, state = known
            if state != "staged":
                self._raw.execute(_STAGE_AGAIN, (now_us, version))
        self._raw.execute(_RETIRE, ("staged", version))
        self._raw.execute(_FORGET, (_KEPT,))
        return version

    def _activate(self, version: int) -> CronDiff:
        wanted = dict(cron_rows.definitions(self._raw, version))
        there = cron_rows.of_manifest(self._raw)
        self._check_free(wanted, there)
        self._sync(version, wanted, there)
        return _diff(wanted, there)

    def _check_free(self, wanted: Iterable[str], there: Container[str], when: str = "") -> None:
        """Raise InvalidCron when a name is that of a cron that was registered at run time."""
        taken = [name for name in wanted if name not in there and self._raw.execute(_TAKEN, (name,)).fetchone()]
        if taken:
            msg = (
                f"registered at run time, and defined in the code: cron(s) {', '.join(map(repr, taken))}: rename the"
                f" definition, or delete the registered cron (`crons.delete(name)`){when}"
            )
            raise InvalidCron(msg)

    def _sync(self, version: int, wanted: Mapping[str, bytes], there: Mapping[str, CronRow]) -> None:
        """Let the crons that the code defines be those of a manifest. Those registered at run time stay as they are.

        An equal definition keeps its account and its next tick.
        """
        diff, crons = _diff(wanted, there), self._crons
        for name in diff.added:
            crons.add(CronSpec.decode(name, wanted[name]), "manifest")
        for name in diff.updated:
            crons.change(there[name], CronSpec.decode(name, wanted[name]))
        for name in diff.deleted:
            crons.remove(there[name])
        self._raw.execute(_RETIRE, ("active", version))
        self._raw.execute(_ACTIVATE, (self._jobs.now_us, version))
        reach("manifest.activated")


def _diff(wanted: Mapping[str, bytes], there: Mapping[str, CronRow]) -> CronDiff:
    """Return what a sync of what is there with what is wanted changes. One in trouble is updated: that mends it."""
    both = [name for name in sorted(wanted) if name in there]
    same = {name for name in both if there[name].spec == wanted[name] and there[name].trouble is None}
    return CronDiff(
        added=tuple(name for name in sorted(wanted) if name not in there),
        updated=tuple(name for name in both if name not in same),
        unchanged=tuple(name for name in both if name in same),
        deleted=tuple(name for name in sorted(there) if name not in wanted),
    )
