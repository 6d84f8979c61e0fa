"""A shop: orders, a flaky payment gateway, reminders, and cancellations that race their own timer.

Read `main.py` first, then `orders.py`, `payments.py` and `reminders.py`.  `demo.py` kills it, again and again.
"""
