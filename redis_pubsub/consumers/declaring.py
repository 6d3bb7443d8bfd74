"""``@consumer``: a function that workers run, and what happens when it fails."""

from __future__ import annotations

import functools
import inspect
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ..db import Orm
from ..messages import Message, check_channel_name
from .sending import RESERVED, asend, send

_LONGEST_S = 3600.0


@dataclass(frozen=True, slots=True)
class Retry:
    """What happens to a job that fails.

    Attributes:
        retries: How often it is tried again before it becomes a dead letter.
        backoff_s: How long after the first failure; twice as long after each further one,
            up to an hour, give or take a quarter.
    """

    retries: int = 3
    backoff_s: float = 1.0

    def wait_s(self, attempts: int) -> float | None:
        """Until a job that has failed so often is tried again; ``None``: it is not."""
        if attempts > self.retries:
            return None
        wait_s: float = min(_LONGEST_S, self.backoff_s * 2.0 ** min(attempts - 1, 20))
        return wait_s * random.uniform(0.75, 1.25)


@dataclass(frozen=True, slots=True)
class Job:
    """What a consumer is given to do.

    Attributes:
        message: Its arguments are the payload.
        attempt: 1 at first, 2 after it has failed once.
        worker: Id of the worker.
        orm: Runs plain functions.
    """

    message: Message
    attempt: int
    worker: str
    orm: Orm


class Consumer:
    """A function that workers run, and the names under which jobs ask for it.

    Args:
        names: One queue each.
        function: Called with the job's arguments by keyword; a coroutine function runs on
            the worker's event loop, a plain one in a thread.
        retry: What happens when it raises.

    Attributes:
        path: Where the function is, for people.
    """

    def __init__(
        self, names: Iterable[str], function: Callable[..., Any], retry: Retry = Retry()
    ) -> None:
        functools.update_wrapper(self, function)
        self.names = tuple(check_channel_name(name) for name in names)
        self.function = function
        self.retry = retry
        self.path = f"{function.__module__}.{function.__qualname__}"
        self._is_async = inspect.iscoroutinefunction(function)
        taken = sorted(set(RESERVED) & set(inspect.signature(function).parameters))
        if taken:
            raise TypeError(
                f"{self.path}() cannot have an argument {taken[0]!r}: send() has an option "
                "of that name"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself, here and now."""
        return self.function(*args, **kwargs)

    def send(self, **kwargs: Any) -> str:
        """`send` to this consumer, under its first name."""
        return send(self.names[0], **kwargs)

    async def asend(self, **kwargs: Any) -> str:
        """`asend` to this consumer, under its first name."""
        return await asend(self.names[0], **kwargs)

    async def run(self, job: Job) -> None:
        """Do a job.

        Raises:
            Exception: Whatever the function raises.
        """
        arguments = job.message.payload
        if not isinstance(arguments, dict):
            raise TypeError(f"a job's arguments are an object, not {arguments!r:.80}")
        if self._is_async:
            await self.function(**arguments)
        else:
            await job.orm.run(self.function, **arguments)

    async def died(self, job: Job, error: str) -> None:
        """A job became a dead letter: for those who keep account of them."""


def consumer(
    *names: str, retries: int = 3, backoff_s: float = 1.0
) -> Callable[[Callable[..., Any]], Consumer]:
    """Let workers run a function: ``send("name", pk=3)`` calls it with ``pk=3`` in one of
    them.

    Args:
        names: What `send` calls it. Each is a queue of its own.
        retries: How often a job that raised is tried again; then it is a dead letter.
        backoff_s: How long after the first failure, doubled after each further one.
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise TypeError('@consumer takes the names it listens to: @consumer("resize")')
    return functools.partial(Consumer, names, retry=Retry(retries, backoff_s))
