"""Backups over HTTP: what arrives is whole and checked, and nothing is left beside the database, whatever happens."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.errors import StoreFull
from runtime import doctor
from runtime.http import admin_backup
from runtime.testing import Harness
from tests.http.asking import audit
from tests.http.conftest import OPERATE, Site, make_app, make_http


def beside(db: Path) -> set[str]:
    """Return what stands beside a database, its own files aside."""
    own = {db.name, f"{db.name}-wal", f"{db.name}-shm", f"{db.name}-lock", f"{db.name}-blame"}
    return {path.name for path in db.parent.iterdir()} - own


async def test_a_backup_is_whole(tmp_path: Path) -> None:
    """Every call answered before is in it; its digest is in a header; an app starts on it."""
    app, http = make_app(str(tmp_path / 'my "app".db')), make_http()
    async with Harness(app, db=tmp_path / 'my "app".db') as harness:
        async with Site(app, harness, http, app.asgi(http=http)).client(OPERATE) as client:
            await harness.call("notes:add", {"text": "kept"})
            answer = await client.post("/admin/backup")
            assert answer.status_code == 200, answer.text
            assert answer.headers["content-type"] == "application/octet-stream"
            assert answer.headers["content-disposition"] == 'attachment; filename="my__app_-20260101T000000Z.db"'
            assert answer.headers["x-content-sha256"] == hashlib.sha256(answer.content).hexdigest()
            assert answer.headers["cache-control"] == "no-store"
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert int(answer.headers["content-length"]) == len(answer.content)
            assert beside(tmp_path / 'my "app".db') == set()
            ((action, _, result),) = await audit(client)
            assert (action, result) == (
                "backup",
                f"{len(answer.content)} bytes, sha256 {answer.headers['x-content-sha256']}",
            )
    copy = tmp_path / "copy.db"
    copy.write_bytes(answer.content)
    assert doctor(copy).ok
    async with Harness(make_app(str(copy)), db=copy) as restored:
        assert await restored.call("notes:count", {}) == 1


async def scope_of(site: Site, key: str = OPERATE) -> dict[str, Any]:
    return {
        "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST",
        "scheme": "http", "path": "/admin/backup", "raw_path": b"/admin/backup", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"testserver"), (b"authorization", f"Bearer {key}".encode())],
        "client": ("127.0.0.1", 5), "server": ("testserver", 80), "state": {},
    }  # fmt: skip


async def nothing_more() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


async def test_a_client_that_goes_away_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it keep others from a backup of their own."""
    monkeypatch.setattr(admin_backup, "CHUNK", 4_096)
    app, http = make_app(), make_http()
    async with Harness(app, db=tmp_path / "app.db") as harness:
        site = Site(app, harness, http, app.asgi(http=http))
        sent: list[int] = []

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                sent.append(len(message["body"]))
                if len(sent) == 3:
                    raise OSError("the client is gone")

        await asyncio.wait_for(_ended(site.asgi(await scope_of(site), nothing_more, send)), 10)
        assert sent == [4_096] * 3
        assert beside(tmp_path / "app.db") == set()
        async with site.client(OPERATE) as client:
            assert (await client.post("/admin/backup")).status_code == 200


async def test_a_server_that_tells_of_the_client_s_end_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some servers take what is sent to nobody, and tell it by a message instead: the rest is not read any more."""
    monkeypatch.setattr(admin_backup, "CHUNK", 512)
    app, http = make_app(), make_http()
    async with Harness(app, db=tmp_path / "app.db") as harness:
        site = Site(app, harness, http, app.asgi(http=http))
        scope = await scope_of(site)
        scope["asgi"]["spec_version"] = "2.3"
        gone, sent = asyncio.Event(), list[int]()
        messages = [{"type": "http.request", "body": b"", "more_body": False}]

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body":
                sent.append(len(message["body"]))
                if len(sent) == 3:
                    gone.set()
                    await asyncio.Event().wait()  # nobody takes it

        await asyncio.wait_for(_ended(site.asgi(scope, receive, send)), 10)
        assert sent == [512] * 3
        assert beside(tmp_path / "app.db") == set()
        async with site.client(OPERATE) as client:
            assert (await client.post("/admin/backup")).status_code == 200


@pytest.mark.parametrize("spec", ["2.3", "2.4"])
@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_a_client_that_takes_nothing_is_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, taken: int, spec: str
) -> None:
    """Its connection stands, but nobody reads: others must get a backup all the same."""
    monkeypatch.setattr(admin_backup, "CHUNK", 512)
    monkeypatch.setattr(admin_backup, "TAKE_SECONDS", 0.01)
    app, http = make_app(), make_http()
    async with Harness(app, db=tmp_path / "app.db") as harness:
        site = Site(app, harness, http, app.asgi(http=http))
        scope = await scope_of(site)
        scope["asgi"]["spec_version"] = spec
        messages, sent = [{"type": "http.request", "body": b"", "more_body": False}], list[str]()

        async def receive() -> dict[str, Any]:
            if messages:
                return messages.pop()
            return await asyncio.Event().wait()  # type: ignore[return-value]

        async def send(message: dict[str, Any]) -> None:
            if len(sent) == taken:
                await asyncio.Event().wait()
            sent.append(message["type"])

        await asyncio.wait_for(site.asgi(scope, receive, send), 10)
        assert len(sent) == taken
        assert "a backup was given up" in caplog.text
        assert beside(tmp_path / "app.db") == set()
        async with site.client(OPERATE) as client:
            assert (await client.post("/admin/backup")).status_code == 200


async def _ended(serving: Any) -> None:
    """Wait until a request was served, or its client was told to be gone."""
    from starlette.requests import ClientDisconnect

    try:
        await serving
    except ClientDisconnect:
        pass


async def test_one_backup_at_a_time(tmp_path: Path) -> None:
    """The second is told to come again; once the first was sent there may be another."""
    app, http = make_app(), make_http()
    async with Harness(app, db=tmp_path / "app.db") as harness:
        site = Site(app, harness, http, app.asgi(http=http))
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.body" and not begun.is_set():
                begun.set()
                await go_on.wait()

        first = asyncio.ensure_future(site.asgi(await scope_of(site), nothing_more, send))
        await asyncio.wait_for(begun.wait(), 10)
        assert beside(tmp_path / "app.db") == set()  # it has no name any more: a killed process leaves nothing
        async with site.client(OPERATE) as client:
            refused = await client.post("/admin/backup")
            assert (refused.status_code, refused.json()["error"]["code"]) == (429, "BACKUP_RUNNING")
            assert refused.headers["retry-after"] == "10"
            go_on.set()
            await asyncio.wait_for(first, 10)
            assert (await client.post("/admin/backup")).status_code == 200
            assert [result for _, _, result in await audit(client)][1] == "refused: BACKUP_RUNNING"


async def test_a_backup_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is an answer; the next one is served."""
    app, http = make_app(), make_http()
    async with Harness(app, db=tmp_path / "app.db") as harness:
        asgi = app.asgi(http=http)
        site = Site(app, harness, http, asgi)

        async def full(target: Path) -> None:
            target.write_bytes(b"half of it")
            raise StoreFull("the disk is full")

        with monkeypatch.context() as patch:
            patch.setattr(app, "backup", full)
            async with Site(app, harness, http, app.asgi(http=http)).client(OPERATE) as client:
                answer = await client.post("/admin/backup")
                assert (answer.status_code, answer.json()["error"]["code"]) == (503, "UNAVAILABLE")
                assert (await audit(client))[0] == ("backup", "app.db", "refused: StoreFull")
        assert beside(tmp_path / "app.db") == set()
        async with site.client(OPERATE) as client:
            assert (await client.post("/admin/backup")).status_code == 200


async def test_a_request_that_is_cancelled_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the copy is being made."""
    app, http = make_app(), make_http()
    async with Harness(app, db=tmp_path / "app.db") as harness:
        begun = asyncio.Event()

        async def endless(target: Path) -> None:
            target.write_bytes(b"half of it")
            begun.set()
            await asyncio.Event().wait()

        with monkeypatch.context() as patch:
            patch.setattr(app, "backup", endless)
            asgi = app.asgi(http=http)
        site = Site(app, harness, http, asgi)
        async with site.client(OPERATE) as client:
            asking = asyncio.ensure_future(client.post("/admin/backup"))
            await asyncio.wait_for(begun.wait(), 10)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert beside(tmp_path / "app.db") == set()
            assert (await audit(client))[0] == ("backup", "app.db", "failed: CancelledError")


async def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    """And nothing else."""
    app, http = make_app(), make_http()
    async with Harness(app, db=tmp_path / "app.db") as harness:
        left = tmp_path / ".app.db.sent-abc"
        left.mkdir()
        (left / "copy.db").write_bytes(b"half of it")
        (tmp_path / "app.db.sent-mine").write_text("keep")
        async with Site(app, harness, http, app.asgi(http=http)).client(OPERATE) as client:
            assert (await client.post("/admin/backup")).status_code == 200
        assert beside(tmp_path / "app.db") == {"app.db.sent-mine"}


async def test_a_copy_is_private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it has a name, nobody but its owner can reach it."""
    app, http = make_app(), make_http()
    seen: list[int] = []
    async with Harness(app, db=tmp_path / "app.db") as harness:
        backup = app.backup

        async def watched(target: Path) -> Any:
            seen.append(target.parent.stat().st_mode & 0o777)
            made = await backup(target)
            seen.append(target.stat().st_mode & 0o777)
            return made

        monkeypatch.setattr(app, "backup", watched)
        async with Site(app, harness, http, app.asgi(http=http)).client(OPERATE) as client:
            assert (await client.post("/admin/backup")).status_code == 200
    assert seen == [0o700, 0o600]
