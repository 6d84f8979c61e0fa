"""A typed quota: its key is a function of the app's identity."""

from __future__ import annotations

from typing_extensions import assert_type

from runtime import App, Quota
from tests.typing.programs.identity import User, orders, resolve


def whose(user: User) -> int | None:
    """An admin is not bounded."""
    return None if user.admin else user.id


quota = Quota(whose, calls="50/s", in_flight=20)
assert_type(quota, Quota[User])

app = App("app.db", auth=resolve, namespaces=[orders], quota=quota)
assert_type(app, App[User])
assert_type(App("app.db", auth=resolve, quota=Quota[User](key=lambda auth: auth.id, calls="50/s")), App[User])
plain = App("app.db", quota=Quota(key=whose, in_flight=3))
