"""Recurring work: when a cron ticks, and what becomes of each tick."""
