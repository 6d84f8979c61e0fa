"""The page about crons: each worked line of its table is what the schedule does."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, get_args
from zoneinfo import ZoneInfo

import pytest

from actor_scheduler.crons.catchup import SkipReason
from actor_scheduler.crons.definition import CronOptions
from actor_scheduler.crons.schedule import Cron
from actor_scheduler.times import from_datetime, to_datetime
from tests.crons.test_dst import WORKED

PAGE: Final = (Path(__file__).parents[2] / "docs" / "crons.md").read_text("utf-8")
LINES: Final = re.findall(r"^\| (.+) \| `(.+)` \| (\S+) \| (\d{4}-\S+ \S+) \| (.+) \|$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize("line", LINES, ids=lambda line: line[0])
def test_a_worked_line_is_what_happens(line: tuple[str, ...]) -> None:
    """The ticks that follow the moment, in order, by the zone's own clock."""
    _, expr, zone, after, said = line
    ticks = Cron(expr, tz=zone).ticks(0)
    moment_us = from_datetime(datetime.fromisoformat(after).replace(tzinfo=UTC))
    for wanted in said.split(", "):
        found_us = ticks.next_us(moment_us)
        assert found_us is not None
        local = to_datetime(found_us).astimezone(ZoneInfo(zone))
        assert _shown(local) == wanted
        moment_us = found_us


def _shown(local: datetime) -> str:
    offset = f"{local:%z}"
    return f"{local:%m-%d %H:%M} {offset[:3]}:{offset[3:5]}"


def test_the_page_has_every_case_that_is_tested() -> None:
    """The table is not shorter than the list it comes from."""
    assert [line[0] for line in LINES] == [worked.case for worked in WORKED]


def test_the_page_names_every_reason_and_option() -> None:
    """What a user may meet in a record, or set in a definition."""
    for name in (*get_args(SkipReason), *CronOptions.__annotations__):
        assert f"`{name}`" in PAGE, name
