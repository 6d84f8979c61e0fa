"""A module that makes its surface with the keys of the environment."""

from __future__ import annotations

from runtime import App

app = App("miskey.db")
surface = app.asgi()
