"""Running callbacks: plain ones in database threads, coroutines on the loop.

Plain callbacks that are due run in *hops*: one thread takes many readers, and what they
did to sockets comes back in one call to the loop. A hop is cut after 5 ms: what it has
not begun goes to another thread, so that a slow callback delays only its own socket.
Per reader at most one delivery is in flight, which keeps its order.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..exceptions import PoolBusy
from ..receipts import Receipt
from .recorder import Recorder
from .values import UNREADABLE, SharedValue

if TYPE_CHECKING:
    from ..engine import Engine
    from .reader import ChannelReader

logger = logging.getLogger("redis_pubsub.readers")

CUT_AFTER_S = 0.005
CLOSE_GRACE_S = 0.5
_RETRY_S = 0.05

_thread = threading.local()

T = TypeVar("T")

# What a callback may raise without ending its reader, or the process: SystemExit is
# `sys.exit()` in some library, CancelledError something else that was cancelled.
_CALLBACK_ERRORS = (Exception, asyncio.CancelledError, SystemExit)


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., Any], *args: Any) -> None:
    """Call something on the loop: at once if this is its thread, with the hop's other
    calls from a callback, else as soon as the loop gets to it."""
    hop: Hop | None = getattr(_thread, "hop", None)
    if hop is not None:
        hop.hand_over(call, args)
    elif _is_running(loop):
        call(*args)
    else:
        loop.call_soon_threadsafe(call, *args)


def _is_running(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class Deliveries:
    """The deliveries of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._loop = engine.loop
        self._due: list[ChannelReader] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        # Before this is to be closed, so that it ends later: it writes what is left.
        self._recorder: Recorder = engine.part(Recorder)
        engine.closing.push_async_callback(self._close)

    def due(self, reader: ChannelReader) -> None:
        """A reader has messages and no delivery in flight."""
        if reader.is_plain:
            if not self._due:
                self._loop.call_soon(self._start_hop)
            self._due.append(reader)
        else:
            self.spawn(self._run_async(reader))

    def receipt(self, reader: ChannelReader, value: SharedValue) -> None:
        """All callbacks have returned: note it if the model tracks its delivery."""
        model, subscription = value.model, reader.subscription
        if subscription is None or not getattr(model, "TRACK_DELIVERY", False):
            return
        message = value.message
        self._recorder.add(
            Receipt(message.channel, subscription.subscriber_id, message.model, message.pk)
        )

    # -- plain callbacks ---------------------------------------------------------

    def _start_hop(self) -> None:
        due, self._due = self._due, []
        self._submit(Hop(self, deque((reader, reader.take()) for reader in due)))

    def _submit(self, hop: Hop) -> None:
        self.spawn(self._run_hop(hop))

    async def _run_hop(self, hop: Hop) -> None:
        if not self._engine.orm.in_test_thread:
            hop.timer = self._loop.call_later(CUT_AFTER_S, self._cut, hop)
        try:
            await self._in_thread(hop.run)
        finally:
            if hop.timer is not None:
                hop.timer.cancel()
            hop.settle()

    async def _in_thread(self, call: Callable[..., T], *args: Any) -> T:
        while True:
            try:
                return await self._engine.orm.run(call, *args)
            except PoolBusy:
                # Messages go on waiting in their readers, which are bounded.
                await asyncio.sleep(_RETRY_S)

    def _cut(self, hop: Hop) -> None:
        if not hop.has_begun:
            # It waits for a thread itself: a second one would wait behind it.
            hop.timer = self._loop.call_later(CUT_AFTER_S, self._cut, hop)
            return
        rest = hop.cut()
        if rest:
            self._submit(Hop(self, rest))

    # -- coroutines --------------------------------------------------------------

    async def _run_async(self, reader: ChannelReader) -> None:
        is_wanted = True
        try:
            for value in reader.take():
                if not reader.is_listening:
                    break
                is_wanted = await self._deliver_async(reader, value)
                if not is_wanted:
                    break
        finally:
            reader.delivered(is_wanted)

    async def _deliver_async(self, reader: ChannelReader, value: SharedValue) -> bool:
        is_wanted = has_arrived = True
        if not value.is_built:
            await self._in_thread(value.build, self._engine)
        for callback in reader.callbacks:
            instance = value.build(self._engine)
            if instance is UNREADABLE:
                return True
            try:
                if is_async(callback):
                    result = await callback(reader.channel_name, instance)
                else:
                    result = await self._in_thread(callback, reader.channel_name, instance)
                is_wanted = is_wanted and result is not False
            except _CALLBACK_ERRORS as error:
                if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                    raise
                has_arrived = False
                self.failed(reader)
        if has_arrived:
            self.receipt(reader, value)
        return is_wanted

    def failed(self, reader: ChannelReader) -> None:
        """A callback raised: say so and go on."""
        self._engine.metrics.count("callback_errors")
        logger.exception(
            "a callback on %r failed%s",
            reader.channel_name,
            f" in {reader.manager.owner}"
            if reader.manager and reader.manager.owner
            else "",
        )

    def spawn(self, coroutine: Any) -> None:
        """Own a task: it is ended with the engine, and its failure is logged."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self._engine.metrics.count("delivery_errors")
            logger.error("a delivery failed", exc_info=task.exception())

    async def _close(self) -> None:
        if self._tasks:
            # A callback that is about to return leaves its receipt.
            await asyncio.wait(self._tasks, timeout=CLOSE_GRACE_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    @property
    def engine(self) -> Engine:
        return self._engine


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine: `async def`, or a generator coroutine."""
    if inspect.iscoroutinefunction(function):
        return True
    flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
    if flags & inspect.CO_ITERABLE_COROUTINE:
        return True
    call = getattr(type(function), "__call__", None)  # noqa: B004 (an object with async __call__)
    return inspect.iscoroutinefunction(call)


Work = deque[tuple["ChannelReader", list[SharedValue]]]


class Hop:
    """Readers whose plain callbacks run in one thread, one after the other."""

    def __init__(self, deliveries: Deliveries, work: Work) -> None:
        self._deliveries = deliveries
        self._loop = deliveries.engine.loop
        self._work = work
        self._lock = threading.Lock()
        self._calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self._is_cut = False
        self.has_begun = False
        self.timer: asyncio.TimerHandle | None = None

    def run(self) -> None:
        """In the thread: until nothing is left or the rest was taken away."""
        self.has_begun = True
        _thread.hop = self
        try:
            while True:
                with self._lock:
                    if not self._work:
                        break
                    reader, values = self._work.popleft()
                self._deliver(reader, values)
        finally:
            _thread.hop = None

    def _deliver(self, reader: ChannelReader, values: list[SharedValue]) -> None:
        is_wanted = True
        for value in values:
            if not reader.is_listening:
                break
            has_arrived = True
            for callback in reader.callbacks:
                instance = value.build(self._deliveries.engine)
                if instance is UNREADABLE:
                    has_arrived = False
                    break
                try:
                    result = callback(reader.channel_name, instance)
                    if result is False:
                        is_wanted = False
                    elif inspect.iscoroutine(result):
                        # A plain function that made a coroutine, as a lambda may.
                        self.hand_over(self._deliveries.spawn, (result,))
                except _CALLBACK_ERRORS:
                    has_arrived = False
                    self._deliveries.failed(reader)
            if has_arrived:
                self.hand_over(self._deliveries.receipt, (reader, value))
            if not is_wanted:
                break
        self.hand_over(reader.delivered, (is_wanted,))

    def hand_over(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Leave a call for the loop, in order."""
        with self._lock:
            if not self._is_cut:
                self._calls.append((call, args))
                return
        self._loop.call_soon_threadsafe(call, *args)

    def cut(self) -> Work:
        """On the loop: take what was not begun, and make what was left here so far.

        From now on the thread's calls come one by one, since it may take long.
        """
        with self._lock:
            self._is_cut = True
            rest, self._work = self._work, deque()
        self.settle()
        return rest

    def settle(self) -> None:
        """On the loop: make the calls that were left here."""
        with self._lock:
            calls, self._calls = self._calls, []
        for call, args in calls:
            try:
                call(*args)
            except Exception:
                logger.exception("a call from a callback failed")
