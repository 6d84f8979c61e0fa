-- The second step of the schema: what recurring work writes. A step that was released is never changed, only followed.

CREATE TABLE carts (
    email TEXT PRIMARY KEY,
    item TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    touched_at TEXT NOT NULL
) STRICT;

CREATE INDEX carts_by_age ON carts (touched_at);

CREATE TABLE subscriptions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    email TEXT NOT NULL UNIQUE,
    item TEXT NOT NULL,
    times_left INTEGER NOT NULL             -- reminders still to come
) STRICT;

CREATE TABLE mails (                        -- an outbox, as `outbox` is, for what is not about one order
    id INTEGER PRIMARY KEY,
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    written_at TEXT NOT NULL
) STRICT;

CREATE INDEX orders_by_time ON orders (placed_at);

-- One row for each tick that ran. There is no UNIQUE on cron and tick: the scheduler alone has to keep a tick from
-- running twice, and the demo would show it if it did not.
CREATE TABLE ticks (
    id INTEGER PRIMARY KEY,
    cron TEXT NOT NULL,
    tick TEXT NOT NULL,
    occurrence_id TEXT NOT NULL,
    skipped INTEGER NOT NULL,               -- ticks dropped since the run before
    handled INTEGER NOT NULL                -- carts swept, orders counted
) STRICT;

CREATE INDEX ticks_of_cron ON ticks (cron, id);
