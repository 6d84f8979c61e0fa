"""Whom a call acts as: what a caller proves, or that the scheduler calls; never what an outside clock's secret is."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor_scheduler.errors import FunctionError, InvalidArgs
from runtime import App as RuntimeApp
from runtime import (
    AuthRequest,
    CronInvoker,
    Invoker,
    JobInvoker,
    LocalInvoker,
    MutationCtx,
    Namespace,
    RpcInvoker,
)
from runtime.http.secrets import InvalidSecret, Secrets
from runtime.principals import always, bearer_principal, by_source, first_of

BILLING = "billing-Zk3vQ8wL1xN7pT5yR2uB9cD4"
REPORTS = "reports-Hs6jM0fG8aE2oK4iV7qW1zX3"

JOB = JobInvoker("id", 1, 0, 0, "o")
TICK = CronInvoker("id", 1, 0, 0, "o", "nightly")
BY_HAND = CronInvoker("id", 1, 0, 0, "o", "nightly", "admin")


def asked(invoker: Invoker | None = None, **headers: str) -> AuthRequest:
    return AuthRequest(invoker or RpcInvoker(), headers)


@given(st.text())
async def test_nothing_but_a_known_token_makes_a_principal(token: str) -> None:
    """Whatever stands in the header, the answer is the principal of that very secret, nobody, or a refusal."""
    resolve = bearer_principal({BILLING: "billing", REPORTS: "reports"})
    for header in (token, f"Basic {token}", ""):
        if header.lower().startswith("bearer "):
            continue
        assert await resolve(asked(authorization=header)) is None
    if token.strip() not in (BILLING, REPORTS):
        with pytest.raises(FunctionError, match="UNAUTHORIZED"):
            await resolve(asked(authorization=f"Bearer {token}"))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
@pytest.mark.parametrize("name", ["authorization", "Authorization"])
async def test_each_secret_has_its_own_principal(scheme: str, name: str) -> None:
    resolve = bearer_principal({BILLING: "billing", Secrets(REPORTS): "reports"})
    assert await resolve(asked(**{name: f"{scheme} {BILLING}"})) == "billing"
    assert await resolve(asked(**{name: f"{scheme} {REPORTS}"})) == "reports"
    assert await resolve(asked()) is None


async def test_a_rotated_secret_is_another_key_to_the_same_principal() -> None:
    """First the old and the new, then the new alone: no request fails in between, and the old key is dead after it."""
    keys = Secrets(BILLING)
    resolve = bearer_principal({keys: "billing"})
    keys.rotate(BILLING, REPORTS)
    assert [await resolve(asked(authorization=f"Bearer {key}")) for key in (BILLING, REPORTS)] == ["billing"] * 2
    keys.rotate(REPORTS)
    assert await resolve(asked(authorization=f"Bearer {REPORTS}")) == "billing"
    with pytest.raises(FunctionError):
        await resolve(asked(authorization=f"Bearer {BILLING}"))


async def test_a_header_of_its_own_has_no_scheme() -> None:
    """Where Authorization carries users' tokens, machines need another header."""
    resolve = bearer_principal({BILLING: "billing"}, header="X-Service-Key")
    assert await resolve(asked(**{"x-service-key": BILLING})) == "billing"
    assert await resolve(asked(authorization=f"Bearer {BILLING}")) is None
    with pytest.raises(FunctionError):
        await resolve(asked(**{"x-service-key": f"Bearer {BILLING}"}))


def test_what_could_never_work_is_refused_at_once() -> None:
    for none in ({}, {BILLING: None}):
        with pytest.raises(InvalidArgs, match="needs at least one"):
            bearer_principal(none)
    for bad in ("", "short", "a" * 40):
        with pytest.raises(InvalidSecret):
            bearer_principal({bad: "billing"})


async def test_each_source_has_its_own_resolver() -> None:
    resolve = by_source(rpc=always("user"), scheduled=always("system"))
    sources = [RpcInvoker(), JOB, TICK, BY_HAND, LocalInvoker()]
    assert [await resolve(asked(invoker)) for invoker in sources] == ["user", "system", "system", "system", None]
    assert await by_source(other=always("app"))(asked(LocalInvoker())) == "app"
    assert await by_source()(asked()) is None


async def test_the_first_that_knows_answers_and_a_refusal_ends_the_asking() -> None:
    resolve = first_of(bearer_principal({BILLING: "billing"}), always("a visitor"))
    assert await resolve(asked()) == "a visitor"
    assert await resolve(asked(authorization=f"Bearer {BILLING}")) == "billing"
    with pytest.raises(FunctionError):
        await resolve(asked(authorization=f"Bearer {REPORTS}"))
    assert await first_of()(asked()) is None


async def test_a_scheduled_run_acts_as_what_the_app_says_and_not_as_a_client(tmp_path: Any) -> None:
    seen: list[Any] = []
    ns: Namespace[str] = Namespace("who")

    @ns.mutation
    async def note(ctx: MutationCtx[str]) -> None:
        seen.append((ctx.auth, ctx.invoker.source))

    resolve = by_source(rpc=bearer_principal({BILLING: "billing"}), scheduled=always("system"))
    app: RuntimeApp[str] = RuntimeApp(tmp_path / "app.db", auth=resolve, namespaces=[ns])
    async with app:
        await app.scheduler.wait(await app.scheduler.run_now("who:note"), timeout=30)
    assert seen == [("system", "scheduler")]
