"""One process owns the file: tried with real processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from actor_scheduler.errors import DatabaseLocked, StoreUnavailable
from actor_scheduler.store.sqlite import lock as lock_module
from actor_scheduler.store.sqlite.lock import OwnerLock

OWNER = """
import asyncio, json, os, sys
from runtime import App

def say(what):
    print(json.dumps(what), flush=True)

def waits():
    sys.stdin.readline()

async def main():
    async with App(sys.argv[1], lock_timeout=0):
        say(os.getpid())
        waits()
    say("closed")
    waits()

asyncio.run(main())
"""

FORKING = """
import asyncio, json, os, sys
from functools import partial
from runtime import App, Namespace

ns = Namespace("t")

@ns.mutation()
async def one(ctx) -> int:
    return 1

def say(what):
    os.write(1, json.dumps(what).encode() + b"\\n")  # in one piece: two processes write into this pipe

async def main():
    async with App(sys.argv[1], namespaces=[ns], lock_timeout=0) as app:
        child = os.fork()
        if child == 0:
            try:
                refusals = []
                for refused in (app._running().store.check_process, partial(app.call("t:one").send, None)):
                    try:
                        refused()
                    except Exception as error:
                        refusals.append([type(error).__name__, str(error)])
                say(["child", *refusals])
                if sys.argv[2] == "stays":
                    sys.stdin.readline()
            finally:
                os._exit(0)
        if sys.argv[2] == "ends":
            os.waitpid(child, 0)
        say(["parent", os.getpid(), child])
        sys.stdin.readline()
        say(["parent", await app.call("t:one"), 0])

asyncio.run(main())
"""


def tried(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Return an event that is set once the lock was tried in vain."""
    event = asyncio.Event()
    real = lock_module._try_lock

    def try_lock(fd: int) -> bool:
        got = real(fd)
        if not got:
            event.set()
        return got

    monkeypatch.setattr(lock_module, "_try_lock", try_lock)
    return event


async def test_M1_a_second_process_is_refused_with_the_owner_s_pid(spawn: Any, db: Path) -> None:
    """It gets DatabaseLocked within its lock_timeout, with the pid and the way out."""
    owner = await spawn(OWNER, db)
    assert await owner.says() == owner.pid
    with pytest.raises(DatabaseLocked, match=rf"pid {owner.pid}\).*--workers 1"):
        await OwnerLock(db).acquire(0)
    with pytest.raises(DatabaseLocked, match=r"within 0\.02 s"):
        await OwnerLock(db).acquire(20_000)


@pytest.mark.parametrize("how", ["exits", "is killed"])
async def test_a_waiting_process_gets_the_file_when_the_owner_goes(
    how: str, spawn: Any, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling restart: the new process waits for the old one, whose lock the kernel releases however it ends."""
    owner = await spawn(OWNER, db)
    await owner.says()
    in_vain = tried(monkeypatch)
    successor = OwnerLock(db)
    waiting = asyncio.ensure_future(successor.acquire(30_000_000))
    await in_vain.wait()
    assert not waiting.done()
    if how == "exits":
        await owner.tell()
        assert await owner.says() == "closed"  # the process is still there: it has let go by itself
    else:
        owner.kill()
    await waiting
    successor.release()


async def test_a_canceled_wait_holds_nothing(spawn: Any, db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that was given up leaves the lock to others."""
    owner = await spawn(OWNER, db)
    await owner.says()
    in_vain = tried(monkeypatch)
    waiting = asyncio.ensure_future(OwnerLock(db).acquire(30_000_000))
    await in_vain.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await owner.tell()
    assert await owner.says() == "closed"
    successor = OwnerLock(db)
    await successor.acquire(0)
    successor.release()


async def test_two_apps_in_one_process_exclude_each_other(open_bench: Any, db: Path) -> None:
    """The lock holds within a process too, and another file is another lock."""
    async with open_bench():
        with pytest.raises(DatabaseLocked):
            async with open_bench():
                pass
        async with open_bench(path=db.with_name("other.db")) as bench:
            assert await bench.count() == 0
    async with open_bench() as bench:
        assert await bench.count() == 0


async def test_a_failed_start_lets_go_of_the_file(open_bench: Any) -> None:
    """Whatever stops a start, the next one can have the file."""
    with pytest.raises(Exception, match="failed at"):
        async with open_bench("nonsense"):
            pass
    async with open_bench() as bench:
        assert await bench.count() == 0


async def test_the_lock_is_released_twice_without_harm(db: Path) -> None:
    """Releasing is idempotent, and a released lock can be taken again."""
    lock = OwnerLock(db)
    lock.release()
    for _ in range(2):
        await lock.acquire(0)
        lock.release()
        lock.release()


async def test_a_side_file_without_a_pid_is_no_obstacle(db: Path) -> None:
    """What a dead owner left in the side file, or nothing at all, is overwritten."""
    side = db.with_name("app.db-lock")
    for left in (b"", b"999999999", b"\xff" * 40):
        side.write_bytes(left)
        lock = OwnerLock(db)
        await lock.acquire(0)
        assert int(side.read_bytes()) == lock._pid
        lock.release()


# ------------------------------------------------------------------ forks


async def test_H6_M4_a_forked_child_is_refused_and_leaves_the_parent_alone(spawn: Any, db: Path) -> None:
    """The child's calls are definitely not done; its end does not take the parent's lock away."""
    parent = await spawn(FORKING, db, "ends")
    who, (error, text), called = await parent.says()
    assert (who, error) == ("child", "StoreUnavailable")
    assert "forked" in text
    assert called[0] in ("StoreUnavailable", "ContextClosed"), called
    assert (await parent.says())[:2] == ["parent", parent.pid]
    with pytest.raises(DatabaseLocked):
        await OwnerLock(db).acquire(0)
    await parent.tell()
    assert await parent.says() == ["parent", 1, 0]


async def test_a_forked_child_does_not_keep_the_lock(spawn: Any, db: Path) -> None:
    """When the parent is killed, a child that lives on does not hold the file."""
    parent = await spawn(FORKING, db, "stays")
    said = [await parent.says(), await parent.says()]
    assert sorted(who for who, *_ in said) == ["child", "parent"]
    parent.kill()
    successor = OwnerLock(db)
    await successor.acquire(10_000_000)  # the kernel needs a moment to end the parent; the child stays
    successor.release()


async def test_check_process_refuses_who_never_took_the_lock(db: Path) -> None:
    """A lock that was never taken by this process is nobody's."""
    with pytest.raises(StoreUnavailable):
        OwnerLock(db).check_process()


# ------------------------------------------------------------------ known gaps


async def test_a_call_in_a_forked_child_says_that_it_was_forked(spawn: Any, db: Path) -> None:
    """The sentence a user sees in the child names the fork, not a wrong use of ctx."""
    parent = await spawn(FORKING, db, "ends")
    _, _, (error, text) = await parent.says()
    assert error == "StoreUnavailable"
    assert "forked" in text


@pytest.mark.parametrize("link", ["symbolic", "hard"])
async def test_two_names_of_one_file_are_one_lock(link: str, open_bench: Any, db: Path) -> None:
    """A second app that reaches the same file by a link is refused."""
    other = db.with_name("link.db")
    async with open_bench():
        if link == "symbolic":
            other.symlink_to(db)
        else:
            other.hardlink_to(db)
        with pytest.raises(
            StoreUnavailable, match="owned by another App of this process" if link == "symbolic" else "second name"
        ):
            async with open_bench(path=other):
                pass
