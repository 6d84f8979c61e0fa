"""A limit on everything, each with its arithmetic."""

from typing import Final

SECOND_US: Final = 1_000_000

ARGS_BYTES_MAX: Final = 1 << 20  # one job's encoded arguments: a megabyte is a message, more belongs in a table
DEPTH_MAX: Final = 64  # nesting of one value; far below msgpack's own 511 and Python's recursion limit
ITEMS_MAX: Final = 100_000  # containers' items in one value, all levels together
CALL_JOBS_MAX: Final = 1_000  # jobs one function call may schedule (Convex's figure)
CALL_ARGS_BYTES_MAX: Final = 8 << 20  # arguments one function call may schedule, all jobs together
RESULT_BYTES_MAX: Final = 64 << 10  # a result kept on a job; longer ones are replaced by a marked extract
ERROR_CHARS_MAX: Final = 2_000
TRACEBACK_CHARS_MAX: Final = 8_000
KEY_CHARS_MAX: Final = 256
PATH_CHARS_MAX: Final = 128

AHEAD_US_MAX: Final = 5 * 366 * 86_400 * SECOND_US  # five years, leap days included (Convex's bound)
EPOCH_SECONDS_MAX: Final = 1e11  # year 5138 in seconds, 3 March 1973 in milliseconds: nothing real lies between
ALARM_US_MAX: Final = 60 * SECOND_US  # one sleep: a suspended host or a stepped clock is noticed within this
CLOCK_BEHIND_US: Final = 86_400 * SECOND_US  # a clock this far behind what is on record has not been set yet
CLOCK_WAIT_US: Final = 60 * SECOND_US  # how long a start waits for such a clock before it dispatches all the same
SLOW_TURN_US: Final = SECOND_US  # a turn that takes longer is told to the log: a slow disk, or a slow mutation
WAL_BYTES_WARN: Final = 64 << 20  # a log this large is told to the log: something keeps it from being reset
CLOSING_US: Final = 1_000  # before an alarm, in passes of the loop: event loops round their waits up to a millisecond

MAILBOX_MAX: Final = 20_000  # commands waiting: ~0.5 s of full-rate work, ~40 MiB of ordinary ones
MAILBOX_WAIT_US: Final = 10 * SECOND_US  # no more are taken while the first of over a turn's has waited this long
TURN_COMMANDS_MAX: Final = 2_000  # commands in one turn
TURN_DUE_MAX: Final = 1_000  # due entries in one turn
TURN_US_MAX: Final = 30_000  # a turn starts no new unit after this: one flush is ~0.3 ms, so under 2 % of it
RESOLVER_US_MAX: Final = 10 * SECOND_US  # for the auth resolver to answer for one due mutation: others wait behind it
STUCK_SECONDS: Final = 30.0  # a turn this long: twice the default time limit, and a foreign writer's 5 s besides
RUN_MANY_CHUNK: Final = 1_000  # jobs of one run_many per commit: past this a commit gains no throughput
WINDOW_MAX: Final = 50_000  # entries of one queue in memory: ~160 B each, 8 MiB
WINDOW_LOAD: Final = 10_000  # entries per refill: ~10 ms of the writer
PAGE_MAX: Final = 1_000  # jobs per page of a list
LOOK_MAX: Final = 20_000  # rows looked at for one page of a search, or one step of a sweep: ~40 ms
TEXT_CHARS_MAX: Final = 200  # what is searched for
DEATHS_MAX: Final = 3  # processes one job may take down before it is failed: crash_loop
ACTIONS_MAX: Final = 100  # actions running at once, unless the app says otherwise

ATTEMPTS_MAX: Final = 1_000_000  # attempts of one job; its number is kept in the row
ATTEMPTS_KEPT: Final = 100  # failed attempts on record for one job, the newest; ~200 B each
RETRY_US_MIN: Final = 10_000  # before any further attempt: a job that fails at once starts at most 100 times a second
CHAIN_MAX: Final = 1_000  # jobs in a row that each schedule the next for now, before each link waits CHAIN_US
CHAIN_US: Final = 10_000  # the pause of such a link: a hot loop starts at most 100 times a second
TIMEOUT_GRACE_US: Final = 10 * SECOND_US  # for a canceled action to end, before its job is failed without it
NOTE_CHARS_MAX: Final = 1_000  # an operator's note
PRIORITY_MAX: Final = 100  # priorities go from minus this to plus this
FAIR_PICK: Final = 8  # among due jobs of several priorities, one pick in this many goes to the longest overdue
RATE_MAX: Final = 10_000  # starts of one function per period; each is remembered for that period, 8 B

KEEP_US: Final = 7 * 86_400 * SECOND_US  # an ended job is kept this long, unless its function says otherwise
PRUNE_MAX: Final = 500  # rows per batch of pruning: ~3 ms of the writer
PRUNE_US: Final = 60 * SECOND_US  # between two looks for what can be pruned

MISSED_AFTER_US: Final = 60 * SECOND_US  # a tick this late was missed, not just late: the watchdog wakes within it
CATCH_UP_TICKS_MAX: Final = 1_000  # ticks of one cron caught up at once: their jobs go into one turn
DURATION_US_MAX: Final = 10 * 366 * 86_400 * SECOND_US  # ten years, leap days included: a longer span is a mistake
