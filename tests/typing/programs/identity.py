"""A typed identity: Namespace[User], ctx.auth, acting_as, and the app's resolver."""

from __future__ import annotations

from dataclasses import dataclass

from typing_extensions import assert_type

from runtime import ActionCtx, App, AuthRequest, Caller, MutationCtx, Namespace, QueryCtx


@dataclass(frozen=True)
class User:
    """Who may be calling."""

    id: int
    admin: bool = False


orders: Namespace[User] = Namespace("orders")


@orders.query
async def mine(ctx: QueryCtx[User]) -> int:
    """ctx.auth is a User, or None."""
    assert_type(ctx.auth, User | None)
    return ctx.auth.id if ctx.auth is not None else 0


@orders.mutation(access="public")
async def place(ctx: MutationCtx[User], *, amount: int) -> int:
    """The identity goes along to nested calls."""
    assert_type(ctx.auth, User | None)
    return amount + await ctx.run_query(mine)


@orders.action
async def pay(ctx: ActionCtx[User], *, amount: int) -> bool:
    """And it stands in an action."""
    return ctx.auth is not None and ctx.auth.admin and amount > 0


@orders.action
async def anonymous(ctx: ActionCtx) -> None:
    """A bare ctx is legal under strict: its identity is Any."""
    await ctx.sleep(0)


async def resolve(request: AuthRequest) -> User | None:
    """The resolver is asked for every scheduled run."""
    if request.invoker.source == "scheduler":
        return None
    return User(int(request.headers.get("x-user", "0")))


app = App("app.db", auth=resolve, namespaces=[orders])
assert_type(app, App[User])
assert_type(app.namespace("refunds"), Namespace[User])


async def route(user: User) -> None:
    """A route that has resolved its user acts as that user."""
    caller = app.acting_as(user)
    assert_type(await caller.call(place, amount=3), int)
    assert_type(await app.acting_as(user).call(mine), int)
    assert_type(await use(caller), bool)
    assert_type(await use(app), bool)
    assert_type(await app.idempotent("k", auth=user).call(place, amount=3), int)


async def use(caller: Caller) -> bool:
    """A helper over anything that calls functions."""
    return await caller.call(pay, amount=1)
