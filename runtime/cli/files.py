"""Commands about database files: examine one, copy one, bring one up to date."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import click

from actor_scheduler.errors import ActorSchedulerError, DatabaseLocked
from runtime.cli import tables
from runtime.cli.arguments import check_there
from runtime.cli.asking import as_json, ask, asks, reaching
from runtime.cli.moments import size
from runtime.cli.output import Lines, Output
from runtime.cli.trouble import MISSING, REFUSED, USAGE, Trouble
from runtime.http import documents
from runtime.maintenance import doctor as examine
from runtime.offline import check_private, copy_file, in_use, migrate_file, owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.cli.asking import Asked
    from runtime.cli.client import Client

_SHA256: Final = "X-Content-Sha256"


# ------------------------------------------------------------------ doctor


@click.command()
@click.argument("file", type=click.Path(), required=False)
@click.option("--thorough", is_flag=True, help="Of a FILE: also compare every index with its table.")
@reaching
@click.pass_context
def doctor(context: click.Context, /, *, file: str | None, thorough: bool, **options: Any) -> None:
    """Examine a database FILE, in use or not, or that of a running app (--url). Exit code 1 when it can't be used.

    It looks, and changes nothing.
    """
    place = file if file is not None else options["db"]
    if place is not None:
        check_there(Path(place))
        out = Output(as_json=options["as_json"])
        with out.working(f"examining {place}"):
            doc = documents.report(examine(place, thorough=thorough))
        _tell(out, doc)
        return
    if thorough:
        raise Trouble(USAGE, "--thorough is for a FILE")

    async def there(asked: Asked) -> None:
        with asked.out.working("examining the database"):
            doc = await asked.client.get("doctor")
        _tell(asked.out, doc)

    ask(context, options, there)


def _tell(out: Output, doc: dict[str, Any]) -> None:
    out.show(doc, lambda: tables.report(doc))
    if not doc["ok"]:
        raise Trouble(REFUSED, "an app can't run on this file as it is")


# ------------------------------------------------------------------ backup


@click.command()
@click.argument("target", metavar="FILE", type=click.Path(dir_okay=False))
@click.option("--overwrite", is_flag=True, help="Replace FILE.")
@asks
async def backup(asked: Asked, *, target: str, overwrite: bool) -> None:
    """Copy the database to FILE, as it stands at one moment; a running app goes on.

    FILE is private to its owner, and appears when the copy is whole and checked.
    """
    place = Path(target)
    if asked.client.closed:
        with asked.out.working("copying"), _refusals():
            made = await asyncio.to_thread(copy_file, Path(asked.client.where), place, overwrite=overwrite)
        doc: dict[str, Any] = {
            "path": str(made.path),
            "bytes": made.size,
            "sha256": await asyncio.to_thread(_digest, place),
        }
    else:
        _check_target(place, overwrite=overwrite)
        doc = await _receive(asked, place, overwrite=overwrite)
    asked.out.show(doc, lambda: [Lines([f"{doc['path']}: {size(doc['bytes'])}, sha256 {doc['sha256']}"])])


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_target(place: Path, *, overwrite: bool) -> None:
    """Refuse a target that can't be one, before anything is sent. Raises Trouble."""
    if not place.absolute().parent.is_dir():
        raise Trouble(MISSING, f"there is no folder {place.absolute().parent}")
    for side in ("-wal", "-journal"):
        if os.path.lexists(f"{place}{side}"):
            raise Trouble(REFUSED, f"{place}{side} exists: {place} is in use, or was not closed; use another name")
    try:
        mode = place.lstat().st_mode
    except FileNotFoundError:
        return
    if not overwrite:
        raise Trouble(REFUSED, f"{place} exists already; --overwrite replaces it")
    if not stat.S_ISREG(mode):
        raise Trouble(REFUSED, f"{place} is not a regular file, and is not replaced")
    if owner_of(place) is not None:
        raise Trouble(REFUSED, f"{place} is the database of a running app, and is not replaced")


async def _receive(asked: Asked, place: Path, *, overwrite: bool) -> dict[str, Any]:
    """Write what is sent under another name, and give it its own once it is whole, checked and on disk."""
    with _part(place) as (part, name):
        headers, digest, length = await _write(asked.client, part, asked.out)
        expected = headers.get(_SHA256)
        if expected is not None and digest != expected.lower():
            raise Trouble(REFUSED, f"what arrived is not what was sent (sha256 {digest}, not {expected}): try again")
        part.flush()
        os.fsync(part.fileno())
        _check_target(place, overwrite=overwrite)
        _name(name, place, overwrite=overwrite)
    _flush(place)
    return {"path": str(place), "bytes": length, "sha256": digest}


async def _write(client: Client, part: BinaryIO, out: Output) -> tuple[Any, str, int]:
    digest, length = hashlib.sha256(), 0
    async with contextlib.AsyncExitStack() as stack:
        with out.working("the app makes the copy"):
            response = await stack.enter_async_context(client.stream("POST", "backup", json={}))
        total = response.headers.get("content-length", "")
        with out.working("receiving", int(total) if total.isdigit() else None) as advance:
            async for piece in response.aiter_bytes():
                part.write(piece)
                digest.update(piece)
                length += len(piece)
                advance(len(piece))
    return response.headers, digest.hexdigest(), length


@contextlib.contextmanager
def _part(place: Path) -> Iterator[tuple[BinaryIO, Path]]:
    descriptor, name = tempfile.mkstemp(prefix=f".{place.name}.", suffix=".part", dir=place.absolute().parent)
    try:
        with os.fdopen(descriptor, "wb") as part:
            yield part, Path(name)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


def _name(part: Path, place: Path, *, overwrite: bool) -> None:
    """Give a file its name; without `overwrite`, if nobody has taken it meanwhile. Raises Trouble."""
    if overwrite:
        part.replace(place)
        return
    try:
        os.link(part, place, follow_symlinks=False)
    except FileExistsError:
        raise Trouble(REFUSED, f"{place} exists now; --overwrite replaces it") from None
    except OSError:  # a file system without links
        part.replace(place)


def _flush(place: Path) -> None:
    """Have a file's name on disk."""
    with contextlib.suppress(OSError):
        descriptor = os.open(place.absolute().parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ------------------------------------------------------------------ migrate


@click.command()
@click.argument("file", type=click.Path())
@click.option("--no-backup", is_flag=True, help="Do not copy it before.")
@as_json
def migrate(*, file: str, no_backup: bool, as_json: bool) -> None:
    """Bring a closed database FILE to this release's schema. What it was is copied beside it before.

    An app does the same when it starts. No job is touched; the app's own tables are the app's to bring up to date.
    """
    path = Path(file)
    out = Output(as_json=as_json)
    check_there(path)
    with out.working(f"migrating {path}"), _refusals(path):
        check_private(path)
        done = asyncio.run(migrate_file(path, copy=not no_backup))
    doc = {"path": str(path), "from": done.before, "to": done.after, "backup": str(done.copy) if done.copy else None}
    told = f"{path}: schema version {done.before}" + (
        f" -> {done.after}" if done.before != done.after else ", up to date"
    )
    kept = [f"what it was: {done.copy}"] if done.copy is not None else []
    out.show(doc, lambda: [Lines([told, *kept])])


@contextlib.contextmanager
def _refusals(path: Path | None = None) -> Iterator[None]:
    try:
        yield
    except DatabaseLocked as error:
        told = in_use(path, "stop the app first") if path is not None else str(error)
        raise Trouble(REFUSED, told) from None
    except ActorSchedulerError as error:
        raise Trouble(REFUSED, str(error)) from None
