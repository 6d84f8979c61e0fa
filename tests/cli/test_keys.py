"""The key: where it is read, where it is sent, and that it stands nowhere else."""

from __future__ import annotations

import os
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.cli.keys import check_url, is_loopback, read_key
from runtime.cli.trouble import Trouble
from tests.cli.conftest import Desk
from tests.http.conftest import OPERATE

WRONG = "wrong-Vq2LxZp0aYtR4uWc8sEe1dKfGhJmnn"


def key_file(folder: Path, text: str = OPERATE + "\n", mode: int = 0o600) -> Path:
    path = folder / "key"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_the_key_of_a_file(desk: Desk, tmp_path: Path) -> None:
    """By an option or by the environment; an option goes before the environment's own key."""
    path = str(key_file(tmp_path))
    desk.key = WRONG
    assert desk("stats").exit_code == 3
    assert desk("stats", "--key-file", path).exit_code == 0
    assert desk("stats", "--key-file", "-", input=OPERATE + "\n").exit_code == 0
    desk.key = None
    assert desk("stats", env={"ACTOR_SCHEDULER_KEY_FILE": path}).exit_code == 0
    assert desk("stats", env={"ACTOR_SCHEDULER_DEPLOY_KEY": OPERATE}).exit_code == 0
    none = desk("stats")
    assert none.exit_code == 3
    assert "ACTOR_SCHEDULER_KEY" in none.stderr


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o620, 0o700, 0o602])
def test_a_file_that_others_may_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    """Before it is read; 0600 and 0400 are private."""
    with pytest.raises(Trouble, match="chmod 600"):
        read_key(str(key_file(tmp_path, mode=mode)), {})
    assert read_key(str(key_file(tmp_path, mode=0o400)), {}) == OPERATE


def test_what_is_no_key_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe that nobody writes, a device, what is not there, what is another's; and nothing waits."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)
    for name in (tmp_path, pipe, Path("/dev/null"), tmp_path / "nothing"):
        with pytest.raises(Trouble):
            read_key(str(name), {})
    path = key_file(tmp_path)
    if os.geteuid() == 0:
        os.chown(path, 1234, 1234)
        with pytest.raises(Trouble, match="user 1234"):
            read_key(str(path), {})


@pytest.mark.parametrize("text", ["", "\n", "two words", "t\u00e9st", "a\tb", "a\x00b", "\x1b[2J"])
def test_what_can_be_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    """A header could not carry it."""
    for given_key in (
        lambda: read_key(str(key_file(tmp_path, text)), {}),
        lambda: read_key(None, {"ACTOR_SCHEDULER_KEY": text}),
    ):
        with pytest.raises(Trouble) as refused:
            given_key()
        assert not text.strip() or text.strip() not in refused.value.message


def test_no_option_takes_a_key(desk: Desk) -> None:
    """What stands in a command can be read by everybody on the machine."""
    for option in ("--key", "--token", "--password", "--deploy-key"):
        assert desk("stats", option, OPERATE).exit_code == 2


def test_a_key_that_is_refused_is_never_printed(desk: Desk) -> None:
    """Neither by us, nor when a server sends it back."""
    desk.key = WRONG
    done = desk("stats")
    assert WRONG not in done.output
    assert "does not accept this key" in done.stderr


# ------------------------------------------------------------------ where it is sent


@pytest.mark.parametrize(
    "url",
    ["http://example.org", "http://10.0.0.1:8000", "http://localhost.example.org", "http://127.0.0.1.example.org",
     "http://[2001:db8::1]", "http://0.0.0.0:8000", "http://1270.0.0.1", "http://user:pass@localhost",
     "https://user@example.org", "https://example.org/?key=x", "https://example.org/#x", "ftp://example.org", "example.org",
     "//example.org", "https://", "http://[::1", "", "file:///etc/passwd", "HTTP://example.org"],
)  # fmt: skip
def test_urls_that_get_no_key(desk: Desk, url: str) -> None:
    """In the clear over a network, with something else in it, or no URL at all: nothing is asked."""
    desk.answer = lambda _: httpx.Response(200, json={})
    assert desk("stats", "--url", url).exit_code == 2
    assert desk.asked == []


@pytest.mark.parametrize(
    "url",
    ["http://localhost", "http://LOCALHOST:1", "http://127.0.0.1:8000", "http://127.1.2.3", "http://[::1]:8000/x",
     "http://app.localhost", "https://example.org/scheduler"],
)  # fmt: skip
def test_urls_that_get_the_key(url: str) -> None:
    """This machine, or over TLS."""
    assert check_url(url, insecure_http=False).host


def test_in_the_clear_on_purpose(desk: Desk) -> None:
    """Where nobody else listens."""
    desk.answer = lambda _: httpx.Response(200, json={"paused": None})
    assert desk("resume", "--url", "http://10.0.0.1:8000", "--insecure-http").exit_code == 0
    assert desk.asked[0].headers["authorization"] == f"Bearer {OPERATE}"


@given(st.text(max_size=30))
def test_no_name_but_this_machines_is_loopback(host: str) -> None:
    """Whatever stands before or behind."""
    assert not is_loopback(host + ".example.org")
    assert (
        not is_loopback("x" + host)
        or host.endswith(("localhost", "localhost.", "LOCALHOST"))
        or ".localhost" in host.lower()
    )


def test_a_redirect_is_not_followed(desk: Desk) -> None:
    """The key stays with whom it was given for."""
    desk.answer = lambda _: httpx.Response(307, headers={"location": "https://evil.example/\x1b[2J"})
    done = desk("stats")
    assert done.exit_code == 3
    assert len(desk.asked) == 1
    assert "\x1b" not in done.output


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, text="<html>"), httpx.Response(404, text="nothing"), httpx.Response(502, text="bad gateway"),
     httpx.Response(401, text="who?"), httpx.Response(404, json={"detail": "Not Found"}), httpx.Response(500, json=[]),
     httpx.Response(200, content=b"\xff"), httpx.Response(404, content=b'{"error": "x"}')],
)  # fmt: skip
def test_another_server_is_told_apart(desk: Desk, answer: httpx.Response) -> None:
    """Exit code 3: that is not the app."""
    desk.answer = lambda _: answer
    done = desk("jobs", "get", "x")
    assert done.exit_code == 3, done.output
    assert "administration" in done.stderr


def test_an_app_that_does_not_answer(desk: Desk) -> None:
    """Exit code 3, in one line."""

    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    desk.answer = refuse
    done = desk("stats")
    assert done.exit_code == 3
    assert done.stderr == "error: http://127.0.0.1:8000 can't be reached: connection refused\n"

    def slow(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("slow", request=request)

    desk.answer = slow
    assert desk("stats").exit_code == 3


def test_nowhere_to_go(desk: Desk) -> None:
    """Which app is a question of usage."""
    done = desk("stats", env={"ACTOR_SCHEDULER_URL": None})
    assert done.exit_code == 2
    assert "--url" in done.stderr
    assert "--db" in done.stderr
