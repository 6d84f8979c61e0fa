"""The runtime: queries, mutations and actions under `"namespace:function"` paths, called now or scheduled for later.

Everything an app needs is here; `runtime.testing` has the virtual clock.
"""

from actor_scheduler.call import Call
from actor_scheduler.clock import Clock, SystemClock
from actor_scheduler.crons.definition import CronJob, CronOptions
from actor_scheduler.crons.handle import Crons
from actor_scheduler.crons.records import CronDiff, CronInfo, CronRun, Dispatched, ManifestInfo, Staged
from actor_scheduler.crons.schedule import Cron, Every, Schedule
from actor_scheduler.errors import (
    AccessDenied,
    ActorSchedulerError,
    AlreadyStarted,
    ContextClosed,
    DatabaseError,
    DatabaseLocked,
    ForeignAwait,
    ForgottenAwait,
    FunctionError,
    IntegrityError,
    InvalidArgs,
    InvalidCron,
    InvalidTime,
    KeyConflict,
    LimitExceeded,
    NotRegistrable,
    NotStarted,
    OutcomeUnknown,
    Overloaded,
    PartiallyScheduled,
    SchemaError,
    SqlRefused,
    StoreFull,
    StoreUnavailable,
    TimedOut,
    TimeLimitExceeded,
    TransactionLost,
    UnknownCron,
    UnknownFunction,
    UnknownZone,
    WriterStuck,
    WrongKind,
)
from actor_scheduler.job_list import JobList
from actor_scheduler.model import (
    Args,
    Cause,
    Counted,
    FailedAttempt,
    Job,
    JobOptions,
    Kind,
    Overview,
    Page,
    State,
    Upcoming,
)
from actor_scheduler.retry import GiveUp, Retry, RetryLater
from actor_scheduler.scheduler import Moment, Scheduler
from actor_scheduler.settings import PoolInfo
from actor_scheduler.store.rows import Result, Row
from actor_scheduler.times import Delay, Instant
from runtime.app import App
from runtime.app_scheduler import AppScheduler
from runtime.caller import Caller
from runtime.context import ActionCtx, CanSchedule, MutationCtx, QueryCtx, Reader, Writer
from runtime.crons import AppCrons
from runtime.engine import AuthRequest
from runtime.functions import Action, Function, Mutation, Namespace, Query, Schedulable
from runtime.hooks import JobEvent
from runtime.http.options import Http
from runtime.http.secrets import InvalidSecret, Secrets
from runtime.invoker import (
    Access,
    AdminInvoker,
    CronInvoker,
    FunctionInvoker,
    Invoker,
    JobInvoker,
    LocalInvoker,
    RpcInvoker,
)
from runtime.maintenance import Backup, Report, doctor
from runtime.quota import Quota

__all__ = [
    "Access", "AccessDenied", "Action", "ActionCtx", "ActorSchedulerError", "AdminInvoker", "AlreadyStarted", "App",
    "AppCrons", "AppScheduler", "Args", "AuthRequest", "Backup", "Call", "Caller", "CanSchedule", "Cause", "Clock",
    "ContextClosed", "Counted", "Cron", "CronDiff", "CronInfo", "CronInvoker", "CronJob", "CronOptions", "CronRun",
    "Crons", "DatabaseError", "DatabaseLocked", "Delay", "Dispatched", "Every", "FailedAttempt", "ForeignAwait",
    "ForgottenAwait", "Function", "FunctionError", "FunctionInvoker", "GiveUp", "Http", "Instant", "IntegrityError",
    "InvalidArgs", "InvalidCron", "InvalidSecret", "InvalidTime", "Invoker", "Job", "JobEvent", "JobInvoker", "JobList",
    "JobOptions", "KeyConflict", "Kind", "LimitExceeded", "LocalInvoker", "ManifestInfo", "Moment", "Mutation",
    "MutationCtx", "Namespace", "NotRegistrable", "NotStarted", "OutcomeUnknown", "Overloaded", "Overview", "Page",
    "PartiallyScheduled", "PoolInfo", "Query", "QueryCtx", "Quota", "Reader", "Report", "Result", "Retry", "RetryLater",
    "Row", "RpcInvoker", "Schedulable", "Schedule", "Scheduler", "SchemaError", "Secrets", "SqlRefused", "Staged",
    "State", "StoreFull", "StoreUnavailable", "SystemClock", "TimeLimitExceeded", "TimedOut", "TransactionLost",
    "UnknownCron", "UnknownFunction", "UnknownZone", "Upcoming", "Writer", "WriterStuck", "WrongKind", "doctor",
]  # fmt: skip
