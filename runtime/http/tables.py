"""Every route there is: the one list that the surface serves, and that its tests and its documents are made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from runtime.http import (
    admin_backup,
    admin_crons,
    admin_jobs,
    admin_system,
    dashboard,
    dispatch,
    events,
    health,
    metrics,
    openapi,
    rpc,
    tick,
)

if TYPE_CHECKING:
    from runtime.http.routes import Route

TABLES: Final[tuple[Route, ...]] = (
    *rpc.ROUTES,
    *dispatch.ROUTES,
    *admin_jobs.ROUTES,
    *admin_crons.ROUTES,
    *admin_system.ROUTES,
    *admin_backup.ROUTES,
    *events.ROUTES,
    *tick.ROUTES,
    *health.ROUTES,
    *metrics.ROUTES,
    *dashboard.ROUTES,
    *openapi.ROUTES,
)
