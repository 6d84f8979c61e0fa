"""Outside clocks: whoever has the dispatch secret may tell the time, one tick runs once, and nothing else is theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from runtime import App, AuthRequest, Cron, Every, Http, MutationCtx, Namespace, Secrets
from runtime.http.answers import Problem
from runtime.http.dispatch import Nominal, _nominal
from runtime.principals import always, by_source
from runtime.testing import Harness
from tests.http.conftest import DISPATCH, NEXT, OPERATE, READ, Site, make_app, make_http

START = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)

ns = Namespace[Any]("invoices")


@ns.mutation
async def send(ctx: MutationCtx[Any], *, kind: str = "all") -> dict[str, Any]:
    inv = ctx.invoker
    return {"auth": ctx.auth, "source": inv.source, "scheduled_at": inv.scheduled_at.isoformat(), "kind": kind}


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    app = App[Any]("app.db", namespaces=[ns], auth=by_source(scheduled=always("the system")))
    external: Any = {"clock": "external"}
    app.crons.cron("hourly", "0 * * * *", "invoices:send", **external)
    app.crons.cron("user/42/daily", "0 8 * * *", "invoices:send", {"kind": "user"}, tz="Europe/Paris", **external)
    app.crons.cron("own clock", "0 * * * *", "invoices:send")
    app.crons.cron("off", "0 * * * *", "invoices:send", enabled=False, **external)
    app.crons.cron("replayed", "0 * * * *", "invoices:send", missed_tick_policy="all", overlap="allow", **external)
    http = Http(dispatch=Secrets(DISPATCH))
    async with Harness(app, start=START) as harness:
        await harness.advance(days=1)
        yield Site(app, harness, http, app.asgi(http=http))


@pytest.fixture
async def clock(site: Site) -> AsyncIterator[httpx.AsyncClient]:
    async with site.client(DISPATCH) as client:
        yield client


def error(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, str(response.json()["error"]["code"])


# ------------------------------------------------------------------ ticks


async def test_a_tick_runs_once_however_often_it_is_sent(site: Site, clock: httpx.AsyncClient) -> None:
    first = await clock.post("/schedules/hourly/dispatch", json={})
    assert first.status_code == 202
    document = first.json()
    job_id = document.pop("job_id")
    assert document == {"status": "accepted", "schedule": "hourly", "tick": "2026-06-02T12:00:00.000000Z"}
    await site.harness.settle()
    for again in (await clock.post("/schedules/hourly/dispatch"), await clock.get("/schedules/hourly/dispatch")):
        assert (again.status_code, again.json()) == (200, {**document, "status": "duplicate", "job_id": job_id})
    job = await site.app.scheduler.get(job_id)
    assert job is not None
    assert (job.state, job.result["scheduled_at"]) == ("success", "2026-06-02T12:00:00+00:00")


async def test_the_clock_is_not_whom_the_run_acts_as(site: Site, clock: httpx.AsyncClient) -> None:
    """The secret says who may tell the time; the app's resolver, asked as for every scheduled run, who acts."""
    answer = await clock.post("/schedules/hourly/dispatch?", json={})
    await site.harness.settle()
    job = await site.app.scheduler.get(answer.json()["job_id"])
    assert job is not None
    assert (job.result["auth"], job.result["source"]) == ("the system", "cron")


async def test_a_tick_runs_once_over_restarts(site: Site, clock: httpx.AsyncClient) -> None:
    """What was sent is on record in the file, not in a process's memory."""
    first = await clock.post("/schedules/hourly/dispatch")
    await site.harness.settle()
    await site.harness.restart(kill=True)
    again = await clock.post("/schedules/hourly/dispatch")
    assert again.json()["status"] == "duplicate"
    assert again.json()["job_id"] == first.json()["job_id"]


@pytest.mark.parametrize(
    "nominal",
    [
        "2026-06-02T10:00:00Z", "2026-06-02T10:00:07.123456Z", "2026-06-02T12:00:00+02:00", "2026-06-02 10:00:00+00:00",
        1780394400000, 1780394400123, 1780394400000.5,
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["nominal_fire_time", "nominalFireTime"])
async def test_a_nominal_time_is_snapped_to_its_tick(clock: httpx.AsyncClient, name: str, nominal: Any) -> None:
    answer = await clock.post("/schedules/hourly/dispatch", json={name: nominal})
    assert answer.json()["tick"] == "2026-06-02T10:00:00.000000Z"


async def test_both_spellings_may_stand_there_if_they_say_the_same(clock: httpx.AsyncClient) -> None:
    url, at = "/schedules/hourly/dispatch", "2026-06-02T10:00:00Z"
    different = await clock.post(url, json={"nominal_fire_time": at, "nominalFireTime": "2026-06-02T11:00:00Z"})
    assert error(different) == (400, "INVALID_BODY")
    same = await clock.post(url, json={"nominal_fire_time": at, "nominalFireTime": 1780394400000})
    assert (same.status_code, same.json()["tick"]) == (202, "2026-06-02T10:00:00.000000Z")


@pytest.mark.parametrize(
    "nominal",
    [
        "", "soon", "2026-06-02", "2026-06-02T10:00:00", "2026-06-31T10:00:00Z", 1780394400, -1, 1e300, 1 << 62, True, [], {},
        "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "2036-06-02T10:00:00Z",
    ],
)  # fmt: skip
async def test_a_nominal_time_that_is_none_is_refused(clock: httpx.AsyncClient, nominal: Any) -> None:
    """Seconds in the place of milliseconds would be a tick of 1970, which is skipped in silence for ever."""
    answer = await clock.post("/schedules/hourly/dispatch", json={"nominal_fire_time": nominal})
    assert answer.status_code == 400, answer.text


@given(st.datetimes(min_value=datetime(1973, 3, 4), max_value=datetime(2200, 1, 1)), st.integers(-1439, 1439))
@settings(deadline=None)
def test_a_moment_is_the_same_in_every_spelling(moment: datetime, offset: int) -> None:
    moment = moment.replace(microsecond=moment.microsecond // 1000 * 1000, tzinfo=UTC)
    zone = timezone(timedelta(minutes=offset))
    milliseconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    for said in (moment.isoformat(), moment.astimezone(zone).isoformat(), milliseconds):
        assert _nominal(Nominal.model_validate({"nominalFireTime": said})) == moment


@given(st.text() | st.integers() | st.floats())
def test_whatever_is_sent_as_a_time_is_a_time_or_refused(said: Any) -> None:
    try:
        found = _nominal(Nominal(nominal_fire_time=said))
    except Problem as problem:
        assert problem.status == 400
    else:
        assert found is not None
        assert found.utcoffset() == timedelta(0)


async def test_ticks_in_between_are_missed_ticks(site: Site, clock: httpx.AsyncClient) -> None:
    """The policy of the cron decides: `latest` runs one, `all` runs each."""
    await clock.post("/schedules/replayed/dispatch", json={"nominalFireTime": "2026-06-02T08:00:00Z"})
    await site.harness.settle()
    await clock.post("/schedules/replayed/dispatch")
    ended = await site.harness.settle()
    ticks = [job.result["scheduled_at"][11:13] for job in ended]
    assert ticks == ["09", "10", "11", "12"]


async def test_what_does_not_run_says_why(site: Site, clock: httpx.AsyncClient) -> None:
    await site.app.crons.pause("hourly")
    answer = await clock.post("/schedules/hourly/dispatch")
    told = {"status": "skipped", "schedule": "hourly", "tick": "2026-06-02T12:00:00.000000Z", "reason": "paused"}
    assert (answer.status_code, answer.json()) == (200, told)


# ------------------------------------------------------------------ names


async def test_names_have_slashes(site: Site, clock: httpx.AsyncClient) -> None:
    """A schedule of one user is `user/42/daily`; encoded or not, it is the same name."""
    plain = await clock.post("/schedules/user/42/daily/dispatch")
    encoded = await clock.post("/schedules/user%2F42%2Fdaily/dispatch")
    assert [plain.json()["status"], encoded.json()["status"]] == ["accepted", "duplicate"]
    spaced = await clock.post("/schedules/own%20clock/dispatch")
    assert error(spaced) == (409, "SCHEDULE_NOT_EXTERNAL")
    named = await site.app.crons.register("dispatch/dispatch", Every(hours=1), "invoices:send", clock="external")
    assert named is None
    assert (await clock.post("/schedules/dispatch/dispatch/dispatch")).json()["schedule"] == "dispatch/dispatch"


@pytest.mark.parametrize(
    "name", ["nothing", "off", "Hourly", "hourly ", "x" * 200, "häufig", "%00", "a/%2E%2E/hourly", "a%2F..%2Fhourly"]
)
async def test_what_is_not_there_or_is_disabled_is_not_found(clock: httpx.AsyncClient, name: str) -> None:
    answer = await clock.post(f"/schedules/{name}/dispatch", json={})
    assert error(answer) == (404, "NOT_FOUND" if name == "%00" else "SCHEDULE_NOT_FOUND")


async def test_a_disabled_schedule_leaves_nothing_behind(site: Site, clock: httpx.AsyncClient) -> None:
    for _ in range(3):
        await clock.post("/schedules/off/dispatch")
    assert await site.app.crons.runs("off") == []


# ------------------------------------------------------------------ who may


NAMES = ("hourly", "user/42/daily", "own clock", "off", "nothing")


@pytest.mark.parametrize("key", [None, OPERATE, READ, NEXT, DISPATCH + "x", ""])
async def test_without_the_secret_nothing_is_told(site: Site, key: str | None) -> None:
    """Not whether a schedule is there, not whether a tick was sent before, not what is wrong with the body."""
    async with site.client(DISPATCH) as clock:
        await clock.post("/schedules/hourly/dispatch")
    async with site.client(key) as client:
        told = set()
        for name in NAMES:
            for body in (b"", b"{}", b'{"nominalFireTime": 3}', b"nonsense"):
                answer = await client.post(f"/schedules/{name}/dispatch", content=body)
                document = answer.json()
                del document["error"]["request_id"]
                told.add((answer.status_code, str(document)))
    assert {status for status, _ in told} <= {401, 429}
    assert len([status for status, _ in told if status == 401]) == 1


async def test_during_a_rotation_both_secrets_open_and_after_it_the_old_one_is_dead(site: Site) -> None:
    assert site.http.dispatch is not None
    statuses = []
    for active in ([DISPATCH], [DISPATCH, NEXT], [NEXT]):
        site.http.dispatch.rotate(*active)
        for key in (DISPATCH, NEXT):
            async with site.client(key) as client:
                statuses.append((await client.post("/schedules/hourly/dispatch")).status_code)
    assert statuses == [202, 401, 200, 200, 401, 200]


async def test_a_clock_may_prove_itself_otherwise(site: Site) -> None:
    """A gateway looks at the request, at a token of Cloud Scheduler, say; what it returns is not whom a run acts as."""

    async def gateway(request: Request) -> Any:
        return {"email": "clock@cloud"} if request.headers.get("x-token") == "right" else None

    asgi = site.app.asgi(http=Http(gateway=gateway))
    transport = httpx.ASGITransport(app=asgi)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        refused = await client.post("/schedules/hourly/dispatch", headers={"x-token": "wrong"})
        taken = await client.post("/schedules/hourly/dispatch", headers={"x-token": "right"})
    assert (refused.status_code, taken.status_code) == (401, 202)
    await site.harness.settle()
    job = await site.app.scheduler.get(taken.json()["job_id"])
    assert job is not None
    assert job.result["auth"] == "the system"


async def test_without_a_secret_there_is_no_door(site: Site) -> None:
    transport = httpx.ASGITransport(app=site.app.asgi(http=Http()))
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
        for path in ("/schedules/hourly/dispatch", "/schedules", "/tick"):
            assert (await client.get(path)).status_code == 404


async def test_no_identity_comes_from_a_url_or_a_body(site: Site, clock: httpx.AsyncClient) -> None:
    for answer in (
        await clock.post("/schedules/hourly/dispatch?principal=admin"),
        await clock.get("/schedules/hourly/dispatch?nominalFireTime=0"),
        await clock.post("/schedules/hourly/dispatch", json={"principal": "admin"}),
        await clock.post("/schedules/hourly/dispatch", json={"path": "invoices:send", "args": {}}),
    ):
        assert answer.status_code == 400


# ------------------------------------------------------------------ clocks that can only GET


async def test_a_get_is_never_cached_and_a_head_does_nothing(site: Site, clock: httpx.AsyncClient) -> None:
    head = await clock.head("/schedules/hourly/dispatch")
    assert head.status_code == 405
    assert (await site.app.crons.runs("hourly")) == []
    got = await clock.get("/schedules/hourly/dispatch")
    assert (got.status_code, got.headers["cache-control"]) == (202, "no-store")
    assert not {"etag", "last-modified", "expires", "age"} & set(got.headers)
    conditional = await clock.get("/schedules/hourly/dispatch", headers={"If-None-Match": "*"})
    assert conditional.status_code == 200


# ------------------------------------------------------------------ the list


async def test_the_list_has_what_waits_for_an_outside_clock(site: Site, clock: httpx.AsyncClient) -> None:
    listed = (await clock.get("/schedules")).json()
    assert [item["name"] for item in listed["items"]] == ["hourly", "replayed", "user/42/daily"]
    assert listed["next_cursor"] is None
    assert listed["items"][0]["schedule"] == {"cron": "0 * * * *", "tz": "UTC"}
    assert listed["items"][0]["next_ticks"][0] == "2026-06-02T13:00:00.000000Z"
    assert "args" not in listed["items"][0]  # the secret opens the clock, and no data


async def test_the_pages_of_the_list_have_each_schedule_once(site: Site, clock: httpx.AsyncClient) -> None:
    for number in range(25):
        await site.app.crons.register(f"user/{number:02}", Cron("0 8 * * *"), "invoices:send", clock="external")
        await site.app.crons.register(f"user/{number:02}/own", Cron("0 8 * * *"), "invoices:send")
    found: list[str] = []
    cursor: str | None = None
    while True:
        params = {"prefix": "user/", "limit": "7", **({"cursor": cursor} if cursor is not None else {})}
        page = (await clock.get("/schedules", params=params)).json()
        assert len(page["items"]) <= 7
        found += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == sorted([*(f"user/{number:02}" for number in range(25)), "user/42/daily"])


async def test_the_resolver_is_not_asked_by_a_clock(site: Site, clock: httpx.AsyncClient) -> None:
    """A resolver that is asked about a clock could take its secret for a user's."""
    asked: list[AuthRequest] = []

    async def who(request: AuthRequest) -> Any:
        asked.append(request)

    site.app._engine._resolver = who
    await clock.post("/schedules/hourly/dispatch")
    await site.harness.settle()
    assert [(request.source, dict(request.headers)) for request in asked] == [("scheduled", {})]


async def test_a_tick_from_before_the_definition_is_said_to_be_and_when_the_first_one_comes() -> None:
    """A new monthly cron has no tick yet, and whoever sets its clock up must not take that for a fault of a deploy."""
    app = make_app()
    async with Harness(app, start=datetime(2026, 1, 1, 0, 20, tzinfo=UTC)) as harness:
        async with Site(app, harness, http := make_http(), app.asgi(http=http)).client(DISPATCH) as clock:
            told = await clock.post("/schedules/outside/hourly/dispatch")
            assert (told.status_code, told.json()["status"]) == (200, "skipped")
            assert told.json()["reason"] == "before_definition"
            assert told.json()["next_tick"] == "2026-01-01T01:00:00.000000Z"
            await harness.advance(hours=1)
            assert (await clock.post("/schedules/outside/hourly/dispatch")).status_code == 202
