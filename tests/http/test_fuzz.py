"""A short run of the fuzzing campaign; the long one is `python -m tests.http.fuzz --requests 20000`."""

from __future__ import annotations

from tests.http.fuzz import Found, run


def test_no_request_breaks_the_server_or_hangs_it_or_gets_a_secret_out_of_it() -> None:
    found = run(requests=400, number=7)
    assert found.problems == []
    assert found.requests >= 400
    assert {200, 202, 400, 401, 404, 405} <= set(found.statuses)  # it went deep, and it was refused


def test_the_campaign_sees_what_it_looks_for() -> None:
    """A campaign that can't fail finds nothing."""
    found = Found()
    found.note("a", 500, {"content-type": "application/json"}, b'{"error": {"code": "INTERNAL"}}', 0.1)
    found.note("b", 503, {"content-type": "application/json"}, b'{"error": {"code": "UNAVAILABLE"}}', 0.1)
    found.note("c", 404, {"x-request-id": "1"}, b"not json", 0.1)
    found.note("d", 200, {}, b'{"key": "operate-7nVq2LxZp0aYtR4uWc8sEe1dKfGhJm"}', 0.1)
    found.note("e", 400, {"content-type": "application/json"}, b'{"error": {"code": "X"}, "t": "Traceback"}', 0.1)
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "500 INTERNAL", "404 without a code", "a secret came back", "the inside came out",
    ]  # fmt: skip
