"""Work for other processes: ``@consumer("name")`` does it, `send` asks for it.

A job is a name and JSON arguments. One worker (``manage.py pubsub_worker``) runs it. The
functions live in an app's ``consumers`` module, together with receivers.
"""

from __future__ import annotations

from .declaring import Consumer, Job, Retry, consumer
from .finding import MODULE, by_name, load_consumers
from .sending import RESERVED, asend, job, send, times

__all__ = [
    "MODULE",
    "RESERVED",
    "Consumer",
    "Job",
    "Retry",
    "asend",
    "by_name",
    "consumer",
    "job",
    "load_consumers",
    "send",
    "times",
]
