-- The shop's own tables. The scheduler keeps its jobs in the same file, so one transaction can write both.

CREATE TABLE orders (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    email TEXT NOT NULL,
    item TEXT NOT NULL,
    quantity INTEGER NOT NULL,
    amount INTEGER NOT NULL,                -- in cents
    status TEXT NOT NULL DEFAULT 'placed'   -- placed, then canceled, or confirmed and then paid
        CHECK (status IN ('placed', 'canceled', 'confirmed', 'paid')),
    placed_at TEXT NOT NULL,
    confirm_job TEXT,                       -- the job that confirms the order, unless it is canceled first
    collect_job TEXT                        -- the job that looks again whether the order has been paid
) STRICT;

-- The books. There is no UNIQUE on order_id, though a real shop should add one as a second line of defense: here the
-- mutation alone has to keep an order from being booked twice, and the demo would show it if it did not.
CREATE TABLE charges (
    id INTEGER PRIMARY KEY,
    order_id INTEGER NOT NULL REFERENCES orders (id),
    amount INTEGER NOT NULL,
    gateway_id TEXT NOT NULL,
    booked_at TEXT NOT NULL
) STRICT;

CREATE INDEX charges_of_order ON charges (order_id);

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    order_id INTEGER NOT NULL REFERENCES orders (id),
    recipient TEXT NOT NULL,
    subject TEXT NOT NULL,
    written_at TEXT NOT NULL
) STRICT;

CREATE INDEX outbox_of_order ON outbox (order_id);
