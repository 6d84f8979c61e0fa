"""Secrets: what is refused as one, what opens the door, and what a rotation does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actor_scheduler.clock import monotonic_us
from runtime import Http, InvalidArgs, InvalidSecret, Secrets
from runtime.http import secrets as secrets_module

A = "current-7nVq2LxZp0aYtR4uWc8sEe1dKfGhJm"
B = "following-Zk3Xv9Qb5Nw7Ht1Ly6Rm8Pc2Sd4Fg"

good = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=32, max_size=512).filter(
    lambda text: len(set(text)) >= 10 and not any(word in text.lower() for word in secrets_module._PLACEHOLDERS)
)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "short",
        "x" * 31,
        "x" * 64,
        "changeme-changeme-changeme-changeme-0123456789",
        "your-secret-0123456789-abcdefghijklmnop",
        "with spaces 0123456789 abcdefghijklmnopqrs",
        "with-ünicode-0123456789-abcdefghijklmnopqrs",
        "line\nbreak-0123456789-abcdefghijklmnopqrstu",
        "A1b2C3d4E5" * 60,
        None,
        b"bytes-0123456789-abcdefghijklmnopqrstuvwxyz",
    ],
)
def test_what_is_no_secret_is_refused_and_never_repeated(secret: object) -> None:
    with pytest.raises(InvalidSecret) as refused:
        Secrets(secret)  # type: ignore[arg-type]
    assert not secret or str(secret) not in str(refused.value)


def test_no_secret_at_all_is_refused() -> None:
    with pytest.raises(InvalidSecret, match="missing"):
        Secrets()


def test_too_many_at_once_are_refused() -> None:
    with pytest.raises(InvalidSecret, match="at most 8"):
        Secrets(*(f"{A}{number}" for number in range(9)))


@given(active=st.lists(good, min_size=1, max_size=8, unique=True), other=st.one_of(good, st.text(), st.none()))
def test_exactly_the_active_secrets_match(active: list[str], other: str | None) -> None:
    held = Secrets(*active)
    ids = {held.match(secret) for secret in active}
    assert None not in ids
    assert len(ids) == len(active)
    assert (held.match(other) is not None) == (other in active)
    assert not any(secret in repr(held) for secret in active)


@given(st.text(st.characters(codec=None), max_size=50))
def test_whatever_is_given_is_an_answer_and_no_error(given_text: str) -> None:
    """compare_digest raises on text that is not ASCII: it gets digests."""
    assert Secrets(A).match(given_text) is None


def test_every_active_secret_is_compared_whatever_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append(other)
        return one == other

    monkeypatch.setattr(secrets_module.hmac, "compare_digest", compare)
    held = Secrets(A, B)
    for secret in (A, B, "wrong", None):
        compared.clear()
        held.match(secret)
        assert len(compared) == 2
        assert {len(digest) for digest in compared} == {32}


def test_a_rotation_lets_the_old_one_go_only_when_it_is_told() -> None:
    held = Secrets(A)
    before = held.match(A)
    held.rotate(A, B)
    assert held.match(A) == before
    assert held.match(B) is not None
    held.rotate(B)
    assert held.match(A) is None
    assert before is not None
    assert not held.active(before)
    with pytest.raises(InvalidSecret):
        held.rotate("short")
    assert held.match(B) is not None


def test_a_private_file_is_read_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"{A}\n\n")
    file.chmod(0o600)
    held = Secrets.from_file(file)
    assert held.match(A) is not None
    later = monotonic_us()

    def look_again(text: str) -> None:
        nonlocal later
        file.write_text(text)
        later += 2_000_000
        monkeypatch.setattr(secrets_module, "monotonic_us", lambda: later)

    look_again(f"{A}\n{B}\n")
    assert held.match(B) is not None
    look_again("short\n")
    assert held.match(A) is not None, "a file that can't be used changes nothing"
    look_again(f"{B}\n")
    assert held.match(A) is None
    file.unlink()
    later += 2_000_000
    assert held.match(B) is not None


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "secrets"
    file.write_text(A)
    file.chmod(0o640)
    with pytest.raises(InvalidSecret, match="chmod 600"):
        Secrets.from_file(file)
    with pytest.raises(InvalidSecret, match="can't be read"):
        Secrets.from_file(tmp_path / "none")


def test_the_environment_opens_what_it_names(tmp_path: Path) -> None:
    assert Http.from_env({}).operate is None
    http = Http.from_env({"ACTOR_SCHEDULER_DEPLOY_KEY": A, "ACTOR_SCHEDULER_DEPLOY_KEY_NEXT": B})
    assert http.operate is not None
    assert http.operate.match(A)
    assert http.operate.match(B)
    assert http.dispatch is None
    file = tmp_path / "key"
    file.write_text(A)
    file.chmod(0o600)
    http = Http.from_env({"ACTOR_SCHEDULER_READ_KEY_FILE": os.fspath(file), "ACTOR_SCHEDULER_HOSTS": "a.example, b"})
    assert http.read is not None
    assert http.hosts == ["a.example", "b"]


@pytest.mark.parametrize(
    "environ",
    [
        {"ACTOR_SCHEDULER_DEPLOY_KEY": ""},
        {"ACTOR_SCHEDULER_DEPLOY_KEY": "secret"},
        {"ACTOR_SCHEDULER_DISPATCH_SECRET": "changeme"},
        {"ACTOR_SCHEDULER_READ_KEY_NEXT": A},
        {"ACTOR_SCHEDULER_READ_KEY_FILE": "/nowhere/at/all"},
        {"ACTOR_SCHEDULER_READ_KEY": A, "ACTOR_SCHEDULER_READ_KEY_FILE": "/nowhere"},
    ],
)
def test_a_start_with_a_missing_default_or_short_secret_is_refused(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidSecret) as refused:
        Http.from_env(environ)
    assert "ACTOR_SCHEDULER" in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"operate": A},
        {"body_max": 0},
        {"body_max": True},
        {"body_seconds": 0},
        {"body_seconds": float("nan")},
        {"hosts": "one.example"},
        {"gateway": A},
    ],
)
def test_options_that_cannot_hold_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidArgs):
        Http(**options)  # type: ignore[arg-type]


def test_each_door_has_secrets_of_its_own() -> None:
    """What every outside clock holds must not be the deploy key; not after a rotation either."""
    with pytest.raises(InvalidSecret, match="each door needs its own"):
        Http(operate=Secrets(A), dispatch=Secrets(A))
    with pytest.raises(InvalidSecret):
        Http(operate=Secrets(A, B), read=Secrets(B))
    operate, dispatch = Secrets(A), Secrets(B)
    Http(operate=operate, dispatch=dispatch)
    Http(operate=operate, dispatch=dispatch)
    for one, other in ((operate, B), (dispatch, A)):
        before = dict(one._digests)
        with pytest.raises(InvalidSecret):
            one.rotate(other)
        assert one._digests == before
