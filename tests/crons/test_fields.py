"""What cron expressions say, and which are refused: nothing that can't be kept exactly as it reads is taken."""

from __future__ import annotations

import re
from calendar import monthrange
from datetime import date
from itertools import product

import pytest
from croniter import croniter
from hypothesis import example, given, settings
from hypothesis import strategies as st

from actor_scheduler.crons.fields import EXPR_CHARS_MAX, Fields, fields_of, tidied
from actor_scheduler.crons.schedule import Cron
from actor_scheduler.errors import InvalidArgs, InvalidCron
from tests.crons.scan import EXPRESSIONS, Naive, values

LAWS = settings(max_examples=60, deadline=None, derandomize=True, database=None)

STEPS_MAX = 4_000  # months looked at by one search: the table has 2,784

FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of month", 1, 31, ()),
    ("month", 1, 12, ("JAN", "feb", "Mar", "DEC")),
    ("day of week", 0, 7, ("SUN", "mon", "Tue", "FRI", "sat")),
)


@st.composite
def elements(draw: st.DrawFn, at: int) -> str:
    """Return one element of a field that is taken."""
    _, low, high, names = FIELDS[at]
    size = 7 if at == 4 else high - low + 1
    step = draw(st.integers(1, size))
    first = draw(st.integers(low, high - 1))
    last = draw(st.integers(first + 1, high))
    kinds = [f"*/{step}", f"{first}", f"{first:02}", f"{first}-{last}", f"{first}-{last}/{step}", *names]
    if at != 4:
        kinds.append(f"{first}/{step}")
    if at == 2:
        kinds += ["L", f"{first}-L"]
    return draw(st.sampled_from(kinds))


@st.composite
def texts(draw: st.DrawFn, at: int) -> str:
    """Return a field that is taken."""
    if draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(["*", "?"] if at in (2, 4) else ["*"]))
    if at == 4 and draw(st.integers(0, 3)) == 0:
        nth = st.one_of(
            st.builds("{}#{}".format, st.sampled_from(["MON", "sun", "0", "7", "5"]), st.integers(1, 5)),
            st.builds("L{}".format, st.integers(0, 7)),
        )
        return ",".join(draw(st.lists(nth, min_size=1, max_size=2)))
    return ",".join(draw(st.lists(elements(at), min_size=1, max_size=3)))


def expressions() -> st.SearchStrategy[str]:
    """Return any expression of the grammar; some of them never match."""
    return st.tuples(*(texts(at) for at in range(5))).map(" ".join)


def taken(expr: str) -> Fields | None:
    try:
        return fields_of(expr)
    except InvalidCron as error:
        assert "never matches" in str(error), error
        return None


# ------------------------------------------------------------------ what is said


@LAWS
@given(expr=expressions())
@example("0 0 1-7 * MON")
@example("0 0 */2 * 1,3")
@example("0 0 ? * L5")
@example("0 0 15,L 2 MON#5")
@example("0 0 1,L,3-31 * *")
def test_an_expression_says_what_it_reads(expr: str) -> None:
    """Times, days and kind equal those of a reading that shares no code with ours, croniter's expansion included."""
    said, read = taken(expr), Naive(expr.replace("-L", "-31").replace("-l", "-31"))
    epoch, begin = date(1970, 1, 1), date(2023, 3, 1)
    days = range((begin - epoch).days, (date(2025, 3, 1) - epoch).days)  # a 29 February among them
    if said is None:
        assert not any(map(read.day_matches, range(19_000, 19_000 + 8 * 366)))
        return
    assert [second // 60 for second in said.times] == sorted(read.times)
    assert said.hourly == read.hourly
    matching = []
    for month in range(24):
        first = date(2023 + (month + 2) // 12, (month + 2) % 12 + 1, 1)
        length = monthrange(first.year, first.month)[1]
        mask = said.days.in_month(length, first.isoweekday() % 7) if first.month in said.days.months else 0
        matching += [(first - epoch).days + bit for bit in range(31) if mask >> bit & 1]
    assert matching == [day for day in days if read.day_matches(day)]


def test_every_range_of_weekdays_is_read_right() -> None:
    """What croniter turns ranges up to 7 into, wrapped ones, comes out right for every range and step."""
    for first, last, step in product(range(8), range(8), range(1, 8)):
        if first < last:
            assert fields_of(f"0 0 * * {first}-{last}/{step}").days.weekdays == values(
                f"{first}-{last}/{step}", 0, 6
            ), f"{first}-{last}/{step}"
    assert fields_of("0 0 * * FRI-SUN").days.weekdays == {5, 6, 0}
    assert fields_of("0 0 * * MON-SUN").days.weekdays == set(range(7))
    assert fields_of("0 0 * * 0-7").days.weekdays == set(range(7))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("@yearly", "0 0 1 1 *"), ("@annually", "0 0 1 1 *"), ("@monthly", "0 0 1 * *"), ("@weekly", "0 0 * * 0"),
        ("@daily", "0 0 * * *"), ("@midnight", "0 0 * * *"), ("@hourly", "0 * * * *"), ("@Daily", "0 0 * * *"),
        ("0 9 * jan MON", "0 9 * 1 1"), ("0 0 * * 7", "0 0 * * 0"), ("0 0 ? * ?", "0 0 * * *"),
        ("05 009 * * *", "5 9 * * *"), ("*/60 * * * *", "0 * * * *"), ("0 0 1-L * *", "0 0 1-31 * *"),
        ("59/15 0 * * *", "59 0 * * *"), ("0 0 * DEC/3 *", "0 0 * 12 *"), ("0 0-23 * * *", "0 * * * *"),
        ("0 0/1 * * *", "0 * * * *"), (f"0 {','.join(map(str, range(24)))} * * *", "0 * * * *"),
    ],
)  # fmt: skip
def test_spellings_of_the_same(one: str, other: str) -> None:
    """Two spellings say the same, and match the same."""
    assert fields_of(one) == fields_of(other)


@pytest.mark.parametrize(
    ("hours", "hourly"),
    [
        ("*", True), ("*/2", True), ("*/7", True), ("0-23", True), ("0-23/3", True), ("0/4", True), ("00-23", True),
        ("*/6,5", True), ("5,*/6", True), ("0", False), ("0,12", False), ("1-23", False), ("1/2", False),
        ("0-22", False), ("9-17", False), ("0,6,12,18", False),
    ],
)  # fmt: skip
def test_an_hour_field_over_all_hours_is_hourly(hours: str, hourly: bool) -> None:
    """Whether it follows real time is said by the hour field alone."""
    assert fields_of(f"30 {hours} * * *").hourly is hourly
    assert fields_of(f"* {hours} * * *").hourly is hourly


def test_days_of_month_and_week_join_as_in_vixie_cron() -> None:
    """Both restricted: either is enough. One that begins with * does not restrict, so both must match."""
    assert fields_of("0 0 13 * 5").days.either
    assert fields_of("0 0 1-31 * 5").days.either
    assert not fields_of("0 0 * * 5").days.either
    assert not fields_of("0 0 13 * *").days.either
    assert not fields_of("0 0 */2 * 5").days.either
    assert not fields_of("0 0 13 * */2").days.either
    assert not fields_of("0 0 ? * 5").days.either


# ------------------------------------------------------------------ what is refused

# (expression, field, what the message says; whether croniter takes it: those are its traps)
REFUSED = (
    ("", None, "0 fields", False),
    ("* * * *", None, "4 fields", False),
    ("* * * * * *", None, "6 fields.*no seconds", True),
    ("0 0 1 1 * 0 2027", None, "7 fields.*no years", True),
    ("@reboot", None, "not an alias", False),
    ("@every 5m", None, "not an alias", False),
    ("@daily @daily", None, "not an alias", False),
    ("R * * * *", "minute", "random", True),
    ("R(0-10) * * * *", None, r"character '\('", True),
    ("H * * * *", "minute", "jitter", False),
    ("h/5 * * * *", "minute", "jitter", False),
    ("*/90 * * * *", "minute", "larger than the field.*write 0", True),
    ("* */25 * * *", "hour", "larger than the field", True),
    ("0 0 * */13 *", "month", "larger than the field", True),
    ("5/61 * * * *", "minute", "write 5,", True),
    (f"*/{'9' * 300} * * * *", "minute", "larger than the field", True),
    ("*/0 * * * *", "minute", "step .* is 0", False),
    ("*/ * * * *", "minute", "can't be read", False),
    ("5-1 * * * *", "minute", "backwards; write 5-59,0-1", True),
    ("0 22-2 * * *", "hour", "backwards; write 22-23,0-2", True),
    ("0 23-2 * * *", "hour", "backwards; write 23,0-2", True),
    ("0 0 * NOV-FEB *", "month", "backwards; write 11-12,1-2", True),
    ("0 0 * * FRI-MON", "day of week", "backwards; write 5-6,0-1", True),
    ("0 0 * * 7-2", "day of week", "backwards; write 0-2", True),
    ("5-5 * * * *", "minute", "one value; write 5", True),
    ("0 0 * * 7-7", "day of week", "one value", True),
    ("0 0 * * SUN-SUN", "day of week", "one value", True),
    ("0 0 * * 7-SUN", "day of week", "one value; write 0", True),
    ("*-5 * * * *", "minute", "can't be read", False),
    ("*,5 * * * *", "minute", "stands alone", True),
    ("0 0 ?,5 * *", "day of month", "stands alone", False),
    ("? * * * *", "minute", "can't be read", False),
    ("0 ? * * *", "hour", "can't be read", False),
    ("60 * * * *", "minute", "0-59", False),
    ("0 24 * * *", "hour", "0-23", False),
    ("0 0 0 * *", "day of month", "1-31", False),
    ("0 0 32 * *", "day of month", "1-31", False),
    ("0 0 * 0 *", "month", "1-12", False),
    ("0 0 * 13 *", "month", "1-12", False),
    ("0 0 * * 8", "day of week", "0-7", False),
    (f"{'9' * 900} * * * *", "minute", "can't be read", False),
    ("-5 * * * *", "minute", "can't be read", False),
    ("1.5 * * * *", None, r"character '\.'", False),
    ("1,,2 * * * *", "minute", "can't be read", False),
    ("1, * * * *", "minute", "can't be read", False),
    ("0 9 * * monday", "day of week", "SUN, MON", False),
    ("0 9 * january *", "month", "JAN, FEB", False),
    ("0 9 * MON *", "month", "JAN, FEB", False),
    ("0 0 15W * *", "day of month", "nearest weekday", True),
    ("0 0 LW * *", "day of month", "nearest weekday", False),
    ("0 0 L-3 * *", "day of month", "can't be read", False),
    ("0 0 * * 5L", "day of week", "Friday of a month is L5", False),
    ("0 0 * * L", "day of week", "L6", False),
    ("0 0 * * LFRI", "day of week", "L5", False),
    ("0 L * * *", "hour", "can't be read", False),
    ("0 0 * * MON#6", "day of week", "1 to 5", False),
    ("0 0 * * MON#0", "day of week", "1 to 5", False),
    ("0 0 * * MON#", "day of week", "MON#2", False),
    ("0 0 * * #2", "day of week", "MON#2", False),
    ("0 0 * * 9#2", "day of week", "can't be read", False),
    ("0 0 * * MON-FRI#1", "day of week", "MON#2", True),
    ("0 0 * * MON#1,TUE", "day of week", "don't mix", False),
    ("0 0 * * L5,1", "day of week", "don't mix", False),
    ("0 0 5#2 * *", "day of month", "can't be read", False),
    ("0 0 * * 1/2", "day of week", "write 1-6/2", True),
    ("0 0 31 2 *", None, "never matches", True),
    ("0 0 30 2 *", None, "never matches", True),
    ("0 0 31 4,6,9,11 *", None, "never matches", True),
    ("0 0 */31 2 MON#5", None, "never matches", True),
    ("０ 0 * * *", None, "character", False),
    ("٣ 0 * * *", None, "character", False),
    ("0 0 * * *\u00a0", None, "character", False),
    ("0 0 * *\u2003*", None, "character", False),
    ("0 0 * * \x00", None, "character", False),
    ("0 0 * * \ud800", None, "character", False),
    ("İ * * * *", None, "character", False),
)  # fmt: skip


@pytest.mark.parametrize(("expr", "field", "reason", "croniter_takes"), REFUSED, ids=lambda value: f"{value!a:.20}")
def test_refused_with_field_and_reason(expr: str, field: str | None, reason: str, croniter_takes: bool) -> None:
    """The message names the field and says what is wrong, or what to write instead."""
    with pytest.raises(InvalidCron, match=f"(?s){reason}") as refused:
        Cron(expr)
    assert field is None or f", {field}: " in str(refused.value)
    assert len(str(refused.value)) < 2 * EXPR_CHARS_MAX + 200
    str(refused.value).encode()
    try:
        takes = croniter.is_valid(expr)
    except Exception:
        takes = False
    assert takes is croniter_takes


@pytest.mark.parametrize("expr", [None, 5, b"* * * * *", ["*"], True])
def test_refused_as_no_text(expr: object) -> None:
    """For these, croniter's own check raises AttributeError or TypeError."""
    with pytest.raises(InvalidCron, match="is text"):
        Cron(expr)


def test_refused_as_too_long() -> None:
    """The longest sensible expression, every value of every field, is half of what is taken."""
    everything = " ".join(",".join(map(str, range(low, high + 1))) for _, low, high, _ in FIELDS)
    assert len(everything) < EXPR_CHARS_MAX / 2
    assert len(Cron(everything)._ticks._times) == 1440
    with pytest.raises(InvalidCron, match="at most"):
        Cron("*" + " " * EXPR_CHARS_MAX + "* * * *")
    assert issubclass(InvalidCron, InvalidArgs)


def test_C12_rare_but_real_ones_are_taken() -> None:
    """What matches once in years, or only through the other field of days, does match."""
    for expr in ("0 0 29 2 *", "0 0 29 2 MON", "0 0 31 2 MON", "0 0 */31 2 MON#1", "0 0 * 2 MON#5", "0 0 31 1,2 *"):
        assert Cron(expr).ticks(0).next_us(0) is not None, expr


def test_white_space_is_tidied() -> None:
    """Fields may stand apart by any blanks, tabs and ends of lines; what is kept has single blanks."""
    assert tidied("  0\t9  *\n* \r\n MON-fri ") == "0 9 * * MON-fri"
    assert Cron(" @daily\n").expr == "@daily"


# ------------------------------------------------------------------ anything at all


ALPHABET = st.text("0123456789*/,-#?LlWwHhRrMONSUNjan @ \t", max_size=40)
ANYTHING = st.one_of(
    ALPHABET,
    st.text(max_size=40),
    st.lists(st.text("0123456789*/,-#?LFRI", min_size=1, max_size=6), min_size=5, max_size=5).map(" ".join),
    st.lists(st.integers(0, 10**30).map(str), min_size=5, max_size=5).map(" ".join),
)


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Return an expression that is taken, with some of its characters replaced, taken out or doubled."""
    text = list(draw(st.one_of(expressions(), st.sampled_from(EXPRESSIONS))))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text) - 1))
        text[at] = draw(st.sampled_from(["", text[at] * 2, *"0179*/,-#?L ", "60", "\n", "é"]))
        if not any(text):
            break
    return "".join(text)


class Counted(tuple):
    """Counts how often an entry is looked at."""

    __slots__ = ()
    looks = 0

    def __getitem__(self, at: object) -> object:
        Counted.looks += 1
        return super().__getitem__(at)


@settings(LAWS, max_examples=150)
@given(expr=st.one_of(ANYTHING, mutated(), expressions()), tz=st.sampled_from(["UTC", "Asia/Gaza", "Pacific/Apia"]),
       at_us=st.integers(-(10**18), 10**18))  # fmt: skip
@example("0 */2 */31 2 MON#1", "Asia/Gaza", 0)
@example("0 * 29 2 *", "Asia/Gaza", 4_000_000_000_000_000)
def test_C12_any_text_is_taken_or_refused(expr: str, tz: str, at_us: int) -> None:
    """No other error, and whatever is taken is searched within a bounded number of steps, in either direction."""
    try:
        cron = Cron(expr, tz=tz)
    except InvalidCron as error:
        str(error).encode()
        return
    assert re.fullmatch(r"[0-9A-Za-z*/,#?@\- ]+", cron.expr)
    ticks = cron.ticks(0)
    kept, ticks._matching = ticks._matching, Counted(ticks._matching)
    try:
        for search in (ticks.next_us, ticks.latest_us):
            Counted.looks = 0
            found = search(at_us)
            assert Counted.looks <= STEPS_MAX
            if found is not None:
                assert ticks.latest_us(found) == found
    finally:
        ticks._matching = kept
    assert ticks.count(0, 2**62) > 0
