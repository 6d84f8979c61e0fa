"""Where clocks change: ours equals the naive scan over a slice of the zones, and the lines of the documentation hold.

All zones and all changes: `python -m tests.crons.dst`.
"""

from __future__ import annotations

import importlib.resources
import shutil
import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones
from zoneinfo._zoneinfo import ZoneInfo as PurePythonZone

import pytest

from actor_scheduler.crons import wall
from actor_scheduler.crons.schedule import Cron, schedule_from_plain, zone_fingerprint
from actor_scheduler.errors import InvalidCron, UnknownZone
from actor_scheduler.times import from_datetime, to_datetime
from tests.crons.dst import compare
from tests.crons.scan import EXPRESSIONS

# A zone of each kind, with the year of its latest changes, or of its odd one.
SLICE = (
    ("America/New_York", 2026), ("America/St_Johns", 2026), ("America/Havana", 2026), ("America/Santiago", 2026),
    ("America/Nuuk", 2026), ("America/Scoresbysund", 2024), ("America/Sao_Paulo", 2018), ("America/Caracas", 2016),
    ("America/Asuncion", 2024), ("America/Argentina/Tucuman", 2004), ("America/Noronha", 2000), ("Asia/Gaza", 2026),
    ("Asia/Beirut", 2026), ("Asia/Jerusalem", 2026), ("Asia/Tehran", 2022), ("Asia/Amman", 2022),
    ("Asia/Damascus", 2022), ("Asia/Pyongyang", 2018), ("Asia/Kathmandu", 1985), ("Asia/Colombo", 2006),
    ("Europe/London", 2026), ("Europe/Dublin", 2026), ("Europe/Paris", 2026), ("Europe/Chisinau", 2026),
    ("Europe/Istanbul", 2016), ("Europe/Volgograd", 2018), ("Europe/Moscow", 2014), ("Africa/Cairo", 2026),
    ("Africa/Casablanca", 2026), ("Africa/Juba", 2021), ("Africa/Windhoek", 2017), ("Antarctica/Troll", 2026),
    ("Antarctica/Vostok", 1994), ("Atlantic/Azores", 2026), ("Australia/Lord_Howe", 2026), ("Australia/Sydney", 2026),
    ("Australia/Eucla", 2009), ("Pacific/Apia", 2011), ("Pacific/Kwajalein", 1993), ("Pacific/Kiritimati", 1994),
    ("Pacific/Chatham", 2026), ("Pacific/Easter", 2026), ("Pacific/Norfolk", 2026),
)  # fmt: skip
QUICK = EXPRESSIONS[2:]  # the first two fire at nearly every minute of a scan


@pytest.mark.parametrize("tz", sorted({tz for tz, _ in SLICE}))
def test_C7_C8_ticks_equal_the_naive_scan(tz: str) -> None:
    """Next, latest and count agree with a minute-by-minute scan around each change."""
    year, long = dict(SLICE)[tz], tz.startswith("Pacific/")  # where whole days were left out
    expressions = EXPRESSIONS if tz in ("America/New_York", "Australia/Lord_Howe", "Pacific/Apia") else QUICK
    counted, found = compare(
        tz,
        datetime(year, 1, 1, tzinfo=UTC),
        datetime(year + 1, 1, 1, tzinfo=UTC),
        expressions,
        (26 if long else 10) * 60,
    )
    assert found == []
    assert counted["changes"] > 0


# ------------------------------------------------------------------ the lines of the documentation


class Worked(NamedTuple):
    """One line: what an expression does in a zone from a moment on, as the zone's clock and as UTC."""

    case: str
    expr: str
    tz: str
    after: str  # UTC
    ticks: str  # "wall offset" each, the following ones in order


WORKED = (
    Worked("gap, fixed time in it", "30 2 * * *", "America/New_York", "2026-03-07T12:00",
           "03-08 03:00 -04:00, 03-09 02:30 -04:00"),
    Worked("gap, several fixed times in it", "0,15,30,45 2 * * *", "America/New_York", "2026-03-07T12:00",
           "03-08 03:00 -04:00, 03-09 02:00 -04:00"),
    Worked("gap, one in it and a regular one at its end", "0,30 2,3 * * *", "America/New_York", "2026-03-07T12:00",
           "03-08 03:00 -04:00, 03-08 03:30 -04:00, 03-09 02:00 -04:00"),
    Worked("gap, hourly", "30 * * * *", "America/New_York", "2026-03-08T06:00",
           "03-08 01:30 -05:00, 03-08 03:30 -04:00"),
    Worked("gap, every second hour", "0 */2 * * *", "America/New_York", "2026-03-08T04:30",
           "03-08 00:00 -05:00, 03-08 04:00 -04:00"),
    Worked("fold, fixed time in it", "30 1 * * *", "America/New_York", "2026-10-31T12:00",
           "11-01 01:30 -04:00, 11-02 01:30 -05:00"),
    Worked("fold, several fixed times in it", "*/20 1 * * *", "America/New_York", "2026-10-31T12:00",
           "11-01 01:00 -04:00, 11-01 01:20 -04:00, 11-01 01:40 -04:00, 11-02 01:00 -05:00"),
    Worked("fold, hourly", "30 * * * *", "America/New_York", "2026-11-01T05:00",
           "11-01 01:30 -04:00, 11-01 01:30 -05:00, 11-01 02:30 -05:00"),
    Worked("fold, every minute", "* * * * *", "America/New_York", "2026-11-01T05:58",
           "11-01 01:59 -04:00, 11-01 01:00 -05:00, 11-01 01:01 -05:00"),
    Worked("a day with a change, far from it", "0 9 * * *", "America/New_York", "2026-03-07T15:00",
           "03-08 09:00 -04:00, 03-09 09:00 -04:00"),
    Worked("gap at midnight", "0 0 * * *", "Africa/Cairo", "2026-04-23T12:00",
           "04-24 01:00 +03:00, 04-25 00:00 +03:00"),
    Worked("gap at midnight, first of the month", "30 0 1 * *", "America/Asuncion", "2017-09-15T12:00",
           "10-01 01:00 -03:00, 11-01 00:30 -03:00"),
    Worked("fold at midnight", "30 23 * * *", "Africa/Cairo", "2026-10-29T12:00",
           "10-29 23:30 +03:00, 10-30 23:30 +02:00"),
    Worked("gap of half an hour", "15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00",
           "10-04 02:30 +11:00, 10-05 02:15 +11:00"),
    Worked("fold of half an hour", "45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00",
           "04-05 01:45 +11:00, 04-06 01:45 +10:30"),
    Worked("fold of half an hour, hourly", "45 * * * *", "Australia/Lord_Howe", "2026-04-04T14:00",
           "04-05 01:45 +11:00, 04-05 01:45 +10:30, 04-05 02:45 +10:30"),
    Worked("gap of two hours", "30 1,2 * * *", "Antarctica/Troll", "2026-03-28T12:00",
           "03-29 03:00 +02:00, 03-30 01:30 +02:00"),
    Worked("summer time as the standard (Dublin)", "30 1 * * *", "Europe/Dublin", "2026-10-24T12:00",
           "10-25 01:30 +01:00, 10-26 01:30 +00:00"),
    Worked("Ramadan", "30 2 * * *", "Africa/Casablanca", "2026-02-14T12:00",
           "02-15 02:30 +01:00, 02-16 02:30 +00:00"),
    Worked("after Ramadan", "30 2 * * *", "Africa/Casablanca", "2026-03-21T12:00",
           "03-22 03:00 +01:00, 03-23 02:30 +01:00"),
    Worked("a new standard time, back half an hour", "45 23 * * *", "Asia/Pyongyang", "2015-08-14T12:00",
           "08-14 23:45 +09:00, 08-15 23:45 +08:30"),
    Worked("a day that was left out", "0 9 * * *", "Pacific/Apia", "2011-12-29T12:00",
           "12-29 09:00 -10:00, 12-31 00:00 +14:00, 12-31 09:00 +14:00"),
    Worked("a day that was left out, hourly", "0 */6 * * *", "Pacific/Apia", "2011-12-30T02:00",
           "12-29 18:00 -10:00, 12-31 00:00 +14:00, 12-31 06:00 +14:00"),
    Worked("a day that was left out, day of the week", "0 9 * * FRI", "Pacific/Apia", "2011-12-29T12:00",
           "12-31 00:00 +14:00, 01-06 09:00 +14:00"),
)  # fmt: skip


@pytest.mark.parametrize("line", WORKED, ids=lambda line: line.case)
def test_C7_C8_worked_lines(line: Worked) -> None:
    """Each case of the documentation, to the instant."""
    zone, ticks = ZoneInfo(line.tz), Cron(line.expr, tz=line.tz).ticks(0)
    expected = line.ticks.split(", ")
    at_us, found = from_datetime(datetime.fromisoformat(line.after).replace(tzinfo=UTC)), []
    for _ in expected:
        at_us = ticks.next_us(at_us)
        shown = to_datetime(at_us).astimezone(zone).isoformat()
        found.append(f"{shown[5:10]} {shown[11:16]} {shown[19:]}")
    assert found == expected


# ------------------------------------------------------------------ zones


# Those that changed back within a week: no other zone was as quick.
QUICKEST = ("America/Boa_Vista", "America/Noronha", "America/Recife", "Asia/Gaza", "Asia/Hebron", "Africa/Monrovia")


@pytest.mark.parametrize("tz", [*QUICKEST, *sorted(available_timezones() - {"localtime"})[::20]])
def test_a_line_has_every_change_of_its_zone(tz: str) -> None:
    """The changes, found by probing every three days, are those the database lists, to the second."""
    zone = PurePythonZone(tz)
    offsets = [zone._tti_before, *zone._ttinfos]
    listed = [
        (second, now.utcoff // timedelta(seconds=1))
        for second, now, before in zip(zone._trans_utc, offsets[1:], offsets, strict=False)
        if second > 0 and now.utcoff != before.utcoff
    ]
    assert all(later[0] - earlier[0] > 2 * wall._PROBE_DAYS * 86_400 for earlier, later in pairwise(listed))
    line = wall.line_of(ZoneInfo(tz))
    assert list(zip(line.starts, line.offsets, strict=True))[1 : len(listed) + 1] == listed


def test_a_line_goes_on_by_the_rule_to_2199() -> None:
    """After the listed changes a zone's rule goes on: two changes a year."""
    line = wall.line_of(ZoneInfo("Europe/Paris"))
    years = [to_datetime(second * 1_000_000).year for second in line.starts]
    assert [years.count(year) for year in range(1980, 2200)] == [2] * 220
    assert line.starts[-1] < wall.END


def test_the_wall_of_a_line_is_that_of_zoneinfo() -> None:
    """At any instant, and back: a wall time that comes, comes first when `first_time` says."""
    for tz in ("America/New_York", "Africa/Monrovia", "Pacific/Apia", "Asia/Gaza"):
        zone = ZoneInfo(tz)
        line = wall.line_of(zone)
        for second in range(0, wall.END, 86_400 * 37 + 3_601):
            offset = line.offsets[line.segment(second)]
            assert timedelta(seconds=offset) == datetime.fromtimestamp(second, zone).utcoffset()
            assert line.first_time(second + offset) <= second


@pytest.mark.parametrize(
    "tz", ["", "Nowhere", "Europe/Pari", "Europe", "../etc/passwd", "/etc/localtime", "UTC\0", "\ud800", "x" * 10_000,
           "localtime", "posix/UTC", "right/UTC", "Europe/Paris ", "tzdata.zi", "zone.tab", "__init__.py", "."]
)  # fmt: skip
def test_unknown_zones_are_refused_as_such(tz: str) -> None:
    """Whatever the name does to the file system, the error is the same, and says what to write."""
    with pytest.raises(UnknownZone, match="Europe/Paris"):
        Cron("0 9 * * *", tz=tz)


@pytest.mark.parametrize("tz", [None, 1, b"UTC", UTC, timedelta(0), True])
def test_zones_of_another_type_are_refused(tz: object) -> None:
    """A zone is a name or a ZoneInfo: a fixed offset has no name to keep."""
    with pytest.raises(InvalidCron, match="tz takes the name"):
        Cron("0 9 * * *", tz=tz)


def test_a_zone_without_a_name_is_refused() -> None:
    """A ZoneInfo read from a file could not be found again."""
    with _file("Europe/Paris").open("rb") as file:
        nameless = ZoneInfo.from_file(file)
    with pytest.raises(InvalidCron, match="tz takes the name"):
        Cron("0 9 * * *", tz=nameless)


def _file(tz: str) -> Path:
    """Return the file of a zone."""
    roots = [*map(Path, zoneinfo.TZPATH), Path(str(importlib.resources.files("tzdata") / "zoneinfo"))]
    return next(root / tz for root in roots if (root / tz).is_file())


def test_fingerprints_tell_rules_apart() -> None:
    """The hash depends on the offsets alone: equal for two names of one zone, another one for other rules."""
    assert zone_fingerprint("Europe/Paris") == zone_fingerprint("Europe/Monaco")
    names = ("UTC", "Europe/Paris", "Europe/London", "Europe/Dublin", "America/New_York", "Asia/Gaza")
    assert len({zone_fingerprint(tz) for tz in names}) == len(names) - (
        zone_fingerprint("Europe/London") == zone_fingerprint("Europe/Dublin")
    )
    assert all(len(zone_fingerprint(tz)) == 16 for tz in names)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Path]:
    """A folder that zoneinfo looks into first, and reads anew."""
    zoneinfo.reset_tzpath(to=[tmp_path])
    ZoneInfo.clear_cache()
    yield tmp_path
    zoneinfo.reset_tzpath()
    ZoneInfo.clear_cache()


def test_rules_that_change_change_the_fingerprint_and_the_ticks(database: Path) -> None:
    """A zone read anew has a line of its own; what was made from the old rules keeps them."""
    shutil.copy(_file("Europe/Paris"), database / "Changed")
    before, old = zone_fingerprint("Changed"), Cron("0 9 * * *", tz="Changed")
    shutil.copy(_file("Europe/London"), database / "Changed")
    assert zone_fingerprint("Changed") == before  # zoneinfo has it in memory
    ZoneInfo.clear_cache()
    assert zone_fingerprint("Changed") != before
    new = Cron("0 9 * * *", tz="Changed")
    july_us = from_datetime(datetime(2026, 7, 1, tzinfo=UTC))
    assert [to_datetime(cron.ticks(0).next_us(july_us)).hour for cron in (old, new)] == [7, 8]
    assert old == new


def test_a_zone_that_is_gone_is_unknown(database: Path) -> None:
    """What was stored can't be read any more, and the error says which zone it is."""
    shutil.copy(_file("Europe/Paris"), database / "Gone")
    plain = Cron("0 9 * * *", tz="Gone").to_plain()
    (database / "Gone").unlink()
    ZoneInfo.clear_cache()
    with pytest.raises(UnknownZone, match="Gone"):
        schedule_from_plain(plain)


def test_a_damaged_zone_is_unknown(database: Path) -> None:
    """A file that is cut short, or is none, is no zone."""
    whole = _file("Europe/Paris").read_bytes()
    for size in (0, 4, 44, 100, len(whole) // 2):
        (database / f"Cut{size}").write_bytes(whole[:size])
        with pytest.raises(UnknownZone, match=f"Cut{size}"):
            Cron("0 9 * * *", tz=f"Cut{size}")
