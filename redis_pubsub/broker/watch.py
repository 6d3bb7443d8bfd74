"""Drives a `Liveness`: publishes its probes, and aborts a connection that is dead."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from ..exceptions import BrokerUnavailable
from ..metrics import Metrics
from .liveness import Act, Liveness, Step

logger = logging.getLogger("redis_pubsub.broker")


class Watch:
    """Watches one broker's pub/sub connection.

    It never awaits a command in its own task: a command that hangs has its own time
    limits, and being cancelled with it could be swallowed there.

    Args:
        liveness: The clocks; the broker tells it what arrives.
        metrics: Where probes are counted.
        interval_s: How often to look while nobody listens.
        publish: Sends a probe; raises `BrokerUnavailable`.
        ask: Asks something on the pub/sub connection; whoever reads the answer tells the
            clocks, and wakes this.
        is_needed: Whether anything is listened to.
        resumed: Cleared while the broker reads nothing on purpose.
    """

    def __init__(
        self,
        liveness: Liveness,
        metrics: Metrics,
        *,
        interval_s: float,
        publish: Callable[[], Awaitable[None]],
        ask: Callable[[], None],
        is_needed: Callable[[], bool],
        resumed: asyncio.Event,
    ) -> None:
        self._liveness = liveness
        self._metrics = metrics
        self._interval_s = interval_s
        self._publish = publish
        self._ask = ask
        self._woken = asyncio.Event()
        self._is_needed = is_needed
        self._resumed = resumed
        self._loop = asyncio.get_running_loop()
        self._probe: asyncio.Task[None] | None = None

    async def run(self, abort: Callable[[], object]) -> None:
        """Watch one connection until cancelled; ``abort`` ends it without waiting."""
        self._liveness.began(self._loop.time())
        while True:
            if not self._resumed.is_set():
                await self._resumed.wait()
                self._liveness.began(self._loop.time())
            elif not self._is_needed():
                await asyncio.sleep(self._interval_s)
                self._liveness.began(self._loop.time())
            else:
                step = self._liveness.step(self._loop.time())
                self._act(step, abort)
                await self._pause(step.wait_s)

    def wake(self) -> None:
        """The clocks were told something that cannot wait."""
        self._woken.set()

    async def close(self) -> None:
        """End the probe that may be on its way."""
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.wait([self._probe])

    async def _pause(self, wait_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._woken.wait()
        self._woken.clear()

    def _act(self, step: Step, abort: Callable[[], object]) -> None:
        if step.act is Act.PROBE and self._probe is None:
            self._metrics.count("probes_sent")
            self._probe = asyncio.create_task(
                self._publish_probe(self._liveness.probe), name="redis-pubsub-probe"
            )
        elif step.act is Act.ABORT:
            if step.is_down:
                self._metrics.count("probes_failed")
                logger.warning("Redis answers nothing; ending the pub/sub connection")
            else:
                self._metrics.count("probes_unanswered")
                logger.warning(
                    "Redis takes messages, and none arrives; ending the pub/sub connection"
                )
            abort()

    async def _publish_probe(self, probe: int) -> None:
        try:
            await self._publish()
            self._liveness.published(probe)
            self._ask()
        except BrokerUnavailable as error:
            self._liveness.refused(probe)
            logger.warning("a probe could not be published: %s", error)
        except Exception:
            self._metrics.count("broker_crashed")
            logger.exception("publishing a probe failed")
        finally:
            self._probe = None
