"""Identities of the wrong type."""

from __future__ import annotations

from runtime import App, AuthRequest, MutationCtx, Namespace
from tests.typing.programs.identity import User, app, place


class Robot:
    """Not a User."""


robots: Namespace[Robot] = Namespace("robots")
users: Namespace[User] = Namespace("users")


@users.mutation  # error: arg-type, reportArgumentType
async def wrong_auth(ctx: MutationCtx[Robot]) -> None:
    """The namespace's identity is a User."""


@users.mutation
async def name(ctx: MutationCtx[User]) -> int:
    """There may be no identity at all."""
    return ctx.auth.id  # error: union-attr, reportOptionalMemberAccess


async def resolve(request: AuthRequest) -> Robot | None:
    """A resolver of Robots."""
    return Robot() if request.headers else None


async def calls() -> None:
    """The app's identity is a User."""
    await app.acting_as(Robot()).call(place, amount=1)  # error: arg-type, reportArgumentType
    await app.idempotent("k", auth=Robot()).call(place, amount=1)  # error: arg-type, reportArgumentType
    app.include(robots)  # error: arg-type, reportArgumentType
    print(App("app.db", auth=resolve, namespaces=[users]))  # error: arg-type, reportArgumentType


print(wrong_auth)
