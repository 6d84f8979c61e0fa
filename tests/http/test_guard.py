"""Sessions, peers that guess, host names, and the bearer header."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from starlette.requests import Request

from runtime import Http, Secrets
from runtime.http.answers import Problem
from runtime.http.guard import (
    COOKIE,
    COOKIE_LOOPBACK,
    FAILURES_MAX,
    FAILURES_US,
    Guard,
    bearer,
    check_same_site,
    cookie_name,
    is_loopback,
)
from runtime.http.sessions import IDLE_US, LIFE_US, SESSIONS_MAX, Sessions, name_of
from tests.http.conftest import DISPATCH, NEXT, OPERATE, READ, cookie_at


class Ticking:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.us = 10**9

    def __call__(self) -> int:
        return self.us


def asked(
    method: str = "GET",
    *,
    headers: list[tuple[str, str]] | None = None,
    peer: str = "192.0.2.1",
    server: str = "192.0.2.9",
    scheme: str = "https",
) -> Request:
    raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers or []]
    return Request({
        "type": "http", "method": method, "path": "/", "query_string": b"", "scheme": scheme,
        "headers": raw, "client": (peer, 1), "server": (server, 8000),
    })  # fmt: skip


def guard(clock: Ticking, **options: Any) -> Guard:
    doors = {"operate": Secrets(OPERATE), "read": Secrets(READ), "dispatch": Secrets(DISPATCH)}
    return Guard(Http(**{**doors, **options}), Sessions(clock), clock)


def admit(held: Guard, door: Any, request: Request) -> Any:
    return asyncio.run(held.admit(door, request))


# ------------------------------------------------------------------ sessions


class SessionMachine(RuleBasedStateMachine):
    """Sessions against a model: when each began and was last used, on a clock that only goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Ticking()
        self.sessions = Sessions(self.clock)
        self.tokens: list[str] = []
        self.model: list[tuple[int, int] | None] = []  # None for one that has ended

    def alive(self, number: int) -> bool:
        times = self.model[number]
        return times is not None and self.clock.us - times[0] < LIFE_US and self.clock.us - times[1] < IDLE_US

    @rule()
    def begin(self) -> None:
        token = self.sessions.begin("read", "id")
        assert token not in self.tokens
        assert len(token) >= 43
        self.tokens.append(token)
        self.model.append((self.clock.us, self.clock.us))

    @rule(us=st.sampled_from([1, IDLE_US // 2, IDLE_US - 1, IDLE_US, LIFE_US // 3]))
    def pass_time(self, us: int) -> None:
        self.clock.us += us

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def use(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.model) - 1))
        expected = self.alive(number)
        found = self.sessions.use(self.tokens[number])
        assert (found is not None) == expected
        times = self.model[number]
        self.model[number] = (times[0], self.clock.us) if found is not None and times is not None else None
        assert found is None or found[0] == name_of(self.tokens[number])

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def log_out(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(0, len(self.model) - 1))
        self.sessions.end(name_of(self.tokens[number]))
        self.model[number] = None

    @invariant()
    def what_ended_stays_ended_and_looking_changes_nothing(self) -> None:
        for number, token in enumerate(self.tokens):
            assert self.sessions.alive(name_of(token)) == self.alive(number)
            if self.model[number] is None:
                assert self.sessions.use(token) is None


SessionMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
TestSessions = SessionMachine.TestCase


def test_the_oldest_session_gives_way_when_there_are_too_many() -> None:
    sessions = Sessions(Ticking())
    tokens = [sessions.begin("read", "id") for _ in range(SESSIONS_MAX)]
    assert sessions.use(tokens[0]) is not None
    sessions.begin("read", "id")
    assert sessions.use(tokens[1]) is None
    assert sessions.use(tokens[0]) is not None


def test_a_session_keeps_nothing_that_could_be_used_by_who_reads_it() -> None:
    sessions = Sessions(Ticking())
    token = sessions.begin("operate", "id")
    assert token not in repr(vars(sessions))


def test_a_session_ends_with_the_key_it_was_begun_with() -> None:
    clock = Ticking()
    operate = Secrets(OPERATE)
    held = guard(clock, operate=operate)
    key_id = operate.match(OPERATE)
    assert key_id is not None
    token = held.sessions.begin("operate", key_id)
    request = asked(headers=[("cookie", f"{cookie_at('app.example', 'https')}={token}"), ("host", "app.example")])
    who = admit(held, "operate", request)
    assert (who.role, who.via) == ("operate", "session")
    assert held.still_valid(who)
    operate.rotate(NEXT)
    assert not held.still_valid(who)
    with pytest.raises(Problem) as refused:
        admit(held, "operate", request)
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("scheme", "host", "name"),
    [
        ("https", "app.example", COOKIE),
        ("https", "localhost:8000", COOKIE),
        ("http", "localhost:8000", COOKIE_LOOPBACK),
        ("http", "127.0.0.1:8000", COOKIE_LOOPBACK),
        ("http", "[::1]:8000", COOKIE_LOOPBACK),
        ("http", "app.example", COOKIE),
    ],
)
def test_only_a_loopback_name_over_http_gets_a_cookie_that_is_not_secure(scheme: str, host: str, name: str) -> None:
    assert cookie_name(asked(scheme=scheme, headers=[("host", host)])).rpartition("_")[0] == name


def test_two_apps_beside_each_other_have_two_cookies() -> None:
    """Cookies know no ports, and `__Host-` no paths: the name has to tell two apps apart."""
    names = {
        cookie_at(host, scheme, mount)
        for host in ("localhost:8000", "localhost:8001", "a.example")
        for scheme in ("http", "https")
        for mount in ("", "/a", "/b")
    }
    assert len(names) == 3 * 3 * 2 - 3, "a.example has no cookie of its own for http: the browser would not keep it"
    assert all(name.isascii() and name.replace("_", "").replace("-", "").isalnum() for name in names)


def test_a_loopback_cookie_opens_nothing_elsewhere() -> None:
    clock = Ticking()
    held = guard(clock)
    token = held.sessions.begin("read", held.key_holder(READ, asked()).key_id)  # type: ignore[union-attr]
    for scheme, host, status in [("http", "localhost", None), ("https", "localhost", 401), ("http", "a.example", 401)]:
        request = asked(scheme=scheme, headers=[("host", host), ("cookie", f"{cookie_at('localhost')}={token}")])
        if status is None:
            assert admit(held, "read", request).via == "session"
        else:
            with pytest.raises(Problem) as refused:
                admit(held, "read", request)
            assert refused.value.status == status


def test_a_wrong_bearer_is_not_rescued_by_a_session() -> None:
    held = guard(Ticking())
    token = held.sessions.begin("read", held.key_holder(READ, asked()).key_id)  # type: ignore[union-attr]
    headers = [
        ("cookie", f"{cookie_at('a.example', 'https')}={token}"),
        ("host", "a.example"),
        ("authorization", "Bearer wrong"),
    ]
    with pytest.raises(Problem) as refused:
        admit(held, "read", asked(headers=headers))
    assert refused.value.status == 401


# ------------------------------------------------------------------ guessing


def test_a_guesser_is_slowed_down_and_nobody_else() -> None:
    clock = Ticking()
    held = guard(clock)

    def status(key: str, peer: str) -> int:
        try:
            admit(held, "operate", asked(headers=[("authorization", f"Bearer {key}")], peer=peer))
        except Problem as refused:
            return refused.status
        return 200

    assert [status("wrong", "192.0.2.66") for _ in range(FAILURES_MAX + 3)] == [401] * FAILURES_MAX + [429] * 3
    assert status(OPERATE, "192.0.2.66") == 200, "who shares an address with a guesser is let in"
    assert status("wrong", "192.0.2.67") == 401
    clock.us += FAILURES_US
    assert status("wrong", "192.0.2.66") == 401


def test_who_gave_no_secret_has_not_guessed() -> None:
    """A page whose session has ended asks again and again: that must not count, and not slow the next login down."""
    held = guard(Ticking())
    for headers in ([], [("cookie", f"{cookie_at('a.example', 'https')}=ended"), ("host", "a.example")]):
        for _ in range(FAILURES_MAX + 5):
            with pytest.raises(Problem) as refused:
                admit(held, "read", asked(headers=headers))
            assert refused.value.status == 401
    assert held._failures == {}


def test_peers_that_failed_are_remembered_within_bounds() -> None:
    held = guard(Ticking())
    for number in range(10_100):
        held.failed(asked(peer=f"192.0.2.{number}"))
    assert len(held._failures) == 10_000


def test_what_a_peer_claims_to_be_is_not_believed() -> None:
    """X-Forwarded-For is the server's to believe (uvicorn's --forwarded-allow-ips), and never ours."""
    held = guard(Ticking())
    headers = [("authorization", f"Bearer {OPERATE}"), ("x-forwarded-for", "203.0.113.7"), ("x-real-ip", "203.0.113.7")]
    assert admit(held, "operate", asked(headers=headers)).peer == "192.0.2.1"


# ------------------------------------------------------------------ hosts and sites


@pytest.mark.parametrize(
    ("name", "loopback"),
    [
        ("localhost", True),
        ("app.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("[::1]", True),
        ("localhost.evil.example", False),
        ("evil.example", False),
        ("127.0.0.1.nip.io", False),
        ("0.0.0.0", False),
        ("", False),
        ("[", False),
    ],
)
def test_what_counts_as_this_machine(name: str, loopback: bool) -> None:
    assert is_loopback(name) is loopback


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "", "localhost.evil.example", "a, localhost"])
def test_a_page_that_was_resolved_to_this_machine_gets_no_dashboard(host: str) -> None:
    held = guard(Ticking())
    for door in ("page", "login"):
        with pytest.raises(Problem) as refused:
            admit(held, door, asked(headers=[("host", host)], server="127.0.0.1"))
        assert refused.value.code == "BAD_HOST"
    assert admit(held, "page", asked(headers=[("host", "localhost:8000")], server="127.0.0.1")) is None


def test_two_host_headers_are_none() -> None:
    with pytest.raises(Problem):
        admit(guard(Ticking()), "page", asked(headers=[("host", "localhost"), ("host", "x")], server="127.0.0.1"))


def test_named_hosts_are_the_only_ones() -> None:
    held = guard(Ticking(), hosts=["ops.example"])
    assert admit(held, "page", asked(headers=[("host", "OPS.example:443")])) is None
    with pytest.raises(Problem):
        admit(held, "page", asked(headers=[("host", "localhost")]))


sites = st.sampled_from([None, "same-origin", "same-site", "cross-site", "none", "nonsense"])
origins = st.sampled_from([None, "https://app.example", "https://app.example.evil", "null", "https://evil.example", ""])


@given(method=st.sampled_from(["GET", "POST", "DELETE"]), site=sites, origin=origins, header=st.booleans())
def test_a_change_comes_from_our_own_page_or_not_at_all(
    method: str, site: str | None, origin: str | None, header: bool
) -> None:
    headers = [("host", "app.example")]
    headers += [("sec-fetch-site", site)] if site is not None else []
    headers += [("origin", origin)] if origin is not None else []
    headers += [("x-actor-scheduler", "1")] if header else []
    if method == "GET":
        allowed = site in {None, "same-origin", "none"}
    else:
        proven = site == "same-origin" or (site is None and origin is not None)
        allowed = header and proven and origin in {None, "https://app.example"}
    try:
        check_same_site(asked(method, headers=headers))
    except Problem as refused:
        assert refused.code == "CROSS_SITE"
        assert not allowed
    else:
        assert allowed


@given(st.lists(st.tuples(st.sampled_from(["Bearer", "bearer", "BEARER", "Basic", ""]), st.text("ab =", max_size=5))))
def test_a_bearer_is_one_header_of_that_scheme(given_headers: list[tuple[str, str]]) -> None:
    request = asked(headers=[("authorization", f"{scheme} {token}") for scheme, token in given_headers])
    found = bearer(request)
    if len(given_headers) == 1 and given_headers[0][0].lower() == "bearer":
        assert found == given_headers[0][1].strip()
    else:
        assert found is None


async def test_a_gateway_that_hangs_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(request: Request) -> bool:
        return bool(await asyncio.get_running_loop().create_future())

    monkeypatch.setattr("runtime.http.guard.RESOLVER_US_MAX", 10_000)
    with pytest.raises(Problem) as refused:
        await guard(Ticking(), dispatch=None, gateway=never).admit("dispatch", asked())
    assert (refused.value.status, refused.value.code) == (504, "TIMED_OUT")


async def test_a_gateway_lets_in_whom_it_knows_and_a_secret_works_beside_it() -> None:
    async def knows(request: Request) -> str | None:
        return request.headers.get("x-clock")

    held = guard(Ticking(), gateway=knows)
    assert (await held.admit("dispatch", asked(headers=[("x-clock", "paris")]))).via == "gateway"  # type: ignore[union-attr]
    assert (await held.admit("dispatch", asked(headers=[("authorization", f"Bearer {DISPATCH}")]))).via == "bearer"  # type: ignore[union-attr]
    with pytest.raises(Problem) as refused:
        await held.admit("dispatch", asked())
    assert refused.value.status == 401
