"""The checker after a cut can fail: each promise is broken once, on purpose, and named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runtime.testing import Harness
from tests.crash.checker import Rule
from tests.crash.functions import calls_of, make_app
from tests.crash.history import Answer, Ask, Body, History, JobRow, Trace, plain
from tests.powerloss.disk import Image
from tests.powerloss.judge import DB, Judge
from tests.powerloss.rules import AfterCut, Content, broken

ONE, TWO, THREE = (f"{seq:016x}{0:016x}" for seq in (1, 2, 3))


def _history() -> History:
    """Three jobs were acknowledged: one that ran, an action that was started, one that was canceled."""
    history = History()
    for op, kind, ack in (("a", "mutation", ONE), ("b", "action", TWO), ("c", "mutation", THREE)):
        body = Body(op, kind=kind)  # type: ignore[arg-type]
        history.take(["ask", plain(Ask(op, "schedule", (body,))), 0])
        history.take(["answer", op, "ack", ack, []])
    history.take(["ask", plain(Ask("d", "cancel", target=THREE)), 0])
    history.take(["answer", "d", "ack", True, []])
    return history


def _content() -> Content:
    """What a file that keeps all promises holds."""
    rows = (
        JobRow(ONE, "a", "mutation", "success", 1, 1),
        JobRow(TWO, "b", "action", "failed", 1, 1, "interrupted"),
        JobRow(THREE, "c", "mutation", "canceled", 1),
    )
    return Content(History(rows=rows, effects=[Trace("a", ONE, 5)], starts=[Trace("b", TWO, 5)]), "s")


def _left(**changes: object) -> Content:
    return replace(_content(), left=replace(_content().left, **changes))  # type: ignore[arg-type]


def _with(number: int, **changes: object) -> Content:
    rows = list(_content().left.rows)
    rows[number] = replace(rows[number], **changes)  # type: ignore[arg-type]
    return _left(rows=rows)


def _rules(content: Content, *, durable: bool = True) -> set[object]:
    return {found.rule for found in broken(_history(), content, {"s"}, durable=durable)}


def test_a_file_that_keeps_its_promises_breaks_none() -> None:
    """The checker is not simply always right."""
    assert _rules(_content()) == set()
    assert _rules(_content(), durable=False) == set()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (replace(_content(), errors=("page 3 is damaged",)), AfterCut.UNUSABLE),
        (replace(_content(), state="never committed"), AfterCut.NOT_A_PREFIX),
        (_left(rows=_content().left.rows[1:]), Rule.LOST),
        (_with(0, state="pending"), AfterCut.EFFECT_BEFORE_END),
        (_left(effects=()), Rule.SPLIT),
        (_left(effects=[*_content().left.effects] * 2), Rule.DOUBLED),
        (_with(2, state="pending"), AfterCut.CANCEL_LOST),
        (_with(1, state="pending", cause=None, attempt=0), AfterCut.WOULD_START_AGAIN),
    ],
)  # fmt: skip
def test_a_broken_promise_is_named(content: Content, rule: object) -> None:
    """One change, one promise."""
    assert rule in _rules(content)


def test_a_retry_may_start_again_what_its_row_counts() -> None:
    """An action that is pending after a start is well when its row knows of that start."""
    assert _rules(_with(1, state="pending", cause=None)) == set()


def test_without_durability_what_is_gone_is_forgiven_and_what_is_half_there_is_not() -> None:
    """NORMAL may lose the last commits, whole."""
    assert _rules(_left(rows=(), effects=()), durable=False) == set()
    assert _rules(_left(effects=()), durable=False) == {Rule.SPLIT}
    assert _rules(replace(_content(), state="never committed"), durable=False) == {AfterCut.NOT_A_PREFIX}


def test_what_was_refused_must_not_be_there() -> None:
    """A definite refusal is a promise, too."""
    history = _history()
    history.answers["a"] = [Answer("refused", "StoreFull")]
    assert Rule.REFUSED_EXISTS in {found.rule for found in broken(history, _content(), {"s"})}


# ------------------------------------------------------------------ on a real file


async def _image(folder: Path) -> Image:
    folder.mkdir()
    app = make_app(str(folder / DB), str(folder / "starts"), auth=False)
    async with Harness(app, db=folder / DB) as harness:
        await harness.scheduler.run_many(calls_of(Body(f"op{at}", delay_us=3_600_000_000) for at in range(40)))
        await harness.call("crash:work", {"body": plain(Body("live"))})
    return {DB: (folder / DB).read_bytes()}


async def test_a_damaged_page_is_seen(tmp_path: Path) -> None:
    """Whichever page is overwritten: the start refuses the file, or the check of the file names it."""
    image = await _image(tmp_path / "made")
    judge = Judge(tmp_path / "judged")
    assert len((await judge.look(image)).left.rows) == 40
    page = 4096
    data = image[DB]
    for at in range(0, len(data), page):
        damaged = data[:at] + bytes(reversed(data[at : at + page])) + data[at + page :]
        assert (await judge.look({DB: damaged})).errors, f"page {at // page}"


async def test_a_file_without_its_log_is_a_file_without_what_was_in_it(tmp_path: Path) -> None:
    """Two files with the same content stand for the same state, and only those."""
    image = await _image(tmp_path / "made")
    judge = Judge(tmp_path / "judged")
    first = await judge.look(image)
    assert first.state == (await judge.look(image)).state
    assert first.state != (await judge.look({})).state
