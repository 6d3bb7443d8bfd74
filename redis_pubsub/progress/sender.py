"""Sends the newest state from a thread beside the work, a few times a second.

Knows a channel and where to ask for the state; what is counted, and when work has ended, is
`redis_pubsub.progress.work`'s.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast
from weakref import WeakSet

from .. import codec
from ..conf import get_config
from ..messages import Draft, new_header
from ..metrics import Occasionally
from ..publishing.publisher import publisher
from .state import PROGRESS, State

logger = logging.getLogger("redis_pubsub.publishing")

INTERVAL_S = 0.1
"""Between two states of one progress."""
RETRY_S = 1.0
GIVE_UP_S = 10.0
"""How long the last state is tried again while Redis does not take it."""
EXPIRE_S = 3600
"""How long who comes late still finds the last state, unless it is said."""


class Sender:
    """Sends the newest state, at most one each interval.

    Its thread is there while there is something to say: it ends by itself, so that
    nothing is left of work that never says it is done. Not a daemon: what was said last is
    sent before the process ends.
    """

    def __init__(self, channel: str, expire_s: int, snapshot: Callable[[], State]) -> None:
        self._channel = channel
        self._expire_s = expire_s
        self._snapshot = snapshot
        # Numbers of states: the newest, and the newest that Redis has.
        self._said = 0
        self._sent = 0
        self._next_at = 0.0
        self._may_log = Occasionally()
        self.forked()
        _senders.add(self)

    def forked(self) -> None:
        """Begin anew in a child process, which has none of the threads that hold these."""
        self.lock = threading.RLock()
        self._sending = threading.Lock()
        self._hurry = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def has_said(self) -> bool:
        return self._said > 0

    def say(self, *, is_last: bool = False) -> None:
        """Send the state as it is now, soon, unless a newer one comes first. The caller has
        the lock."""
        self._said += 1
        if is_last:
            self._hurry.set()
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="redis-pubsub-progress")
            try:
                thread.start()
            except RuntimeError:
                # No more threads, or the interpreter is about to end: `flush` sends it.
                return
            self._thread = thread

    def flush(self) -> None:
        """Send the newest state now, and wait for that. On an event loop, where nothing
        may wait, the thread does it."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._send()

    def _work(self) -> None:
        failing_since: float | None = None
        while True:
            self._hurry.wait(max(0.0, self._next_at - time.monotonic()))
            now = time.monotonic()
            if self._send():
                failing_since = None
            elif failing_since is None:
                failing_since = now
            has_given_up = failing_since is not None and now - failing_since >= GIVE_UP_S
            if self._said != self._sent and not has_given_up:
                continue
            with self.lock:
                if has_given_up or self._said == self._sent:
                    # Whatever is said from here on begins another thread.
                    self._thread = None
                    return

    def _send(self) -> bool:
        """Send the newest state if it was not sent; whether Redis has it now."""
        with self._sending:
            # After a failure an end, too, waits before it is tried again.
            self._hurry.clear()
            # Without the lock, for which it would wait long where steps are quick. What is
            # changing meanwhile has a higher number, and is sent next.
            number, state = self._said, self._snapshot()
            if state.state != PROGRESS:
                # An end is said once, with all that belongs to it.
                with self.lock:
                    number, state = self._said, self._snapshot()
            if number == self._sent:
                return True
            try:
                publisher.send([self._draft(state)], strict=True)
            except Exception as error:
                self._next_at = time.monotonic() + RETRY_S
                publisher.metrics.count("publish_failed")
                if self._may_log(self._channel):
                    logger.error(
                        "the progress on %r could not be sent; said once a minute",
                        self._channel,
                        exc_info=error,
                    )
                return False
            self._next_at = time.monotonic() + INTERVAL_S
            self._sent = number
            return True

    def _draft(self, state: State) -> Draft:
        config = get_config()
        known = config.channel_options(self._channel)
        options = replace(
            known,
            history_size=max(1, known.history_size),
            history_ttl_s=self._expire_s,
        )
        raw = codec.encode(cast("Any", state))
        return Draft(self._channel, new_header(state.state), raw, options)


# Those of this process, for the sake of its children.
_senders: WeakSet[Sender] = WeakSet()


def _forked() -> None:
    for sender in list(_senders):
        sender.forked()


os.register_at_fork(after_in_child=_forked)
