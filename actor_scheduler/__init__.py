"""A durable scheduler for async Python: one single-writer actor over one SQLite file.

This package is the scheduler; it knows functions only by path.  Apps use `runtime`, which adds the functions.
"""

from actor_scheduler.call import Call
from actor_scheduler.clock import Clock, SystemClock
from actor_scheduler.job_list import JobList
from actor_scheduler.model import Job, JobOptions, Page
from actor_scheduler.retry import GiveUp, Retry, RetryLater
from actor_scheduler.scheduler import Moment, Scheduler

__version__ = "0.1.0"

__all__ = [
    "Call", "Clock", "GiveUp", "Job", "JobList", "JobOptions", "Moment", "Page", "Retry", "RetryLater", "Scheduler",
    "SystemClock",
]  # fmt: skip
