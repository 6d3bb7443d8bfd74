"""How many may be connected, and how fast they may come: decided before the upgrade.

Everything is counted in this process alone. A count that all processes share would cost
Redis a round trip for each that comes, and would be wrong after every crash; the limits of
a site are those of a process times its processes.
"""

from __future__ import annotations

import logging
import math
import resource
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, TypeVar

from aiohttp import hdrs, web

from ..metrics import Occasionally
from ..proxies import TrustedProxies
from .buckets import Buckets, TokenBucket
from .clients import Clients

if TYPE_CHECKING:
    from ..engine import Engine

logger = logging.getLogger("redis_pubsub.websockets")

_TOO_MANY, _LATER = "too many connections\n", "try again later\n"
_Answer = TypeVar("_Answer", bound=web.HTTPException)
SPARE_FILES = 64
"""Open files that are not for clients: Redis, the database, logs, who is being refused."""
FLOOD_COSTS = 20
"""How many times an address has come that was cut off because it sent too much: who comes
back at once to do it again is soon refused before the upgrade."""
FULL_RETRY_S = 5
"""Where only others' leaving helps."""


class Admission:
    """Gives each socket and stream of a process a `Place`, or refuses it."""

    def __init__(self, engine: Engine) -> None:
        limits = engine.config.limits
        self._limits = limits
        self._metrics = engine.metrics
        self._clients = Clients(TrustedProxies(engine.config.trusted_proxies))
        self._most = _as_files_allow(limits.connections)
        self._count = 0
        self._addresses: Counter[str] = Counter()
        self._users: Counter[str] = Counter()
        self._coming = TokenBucket(limits.connects_burst, limits.connects_per_s)
        self._coming_from = Buckets(
            limits.address_connects_burst, limits.address_connects_per_s
        )
        self._may_log = Occasionally()

    def __len__(self) -> int:
        """How many places are taken."""
        return self._count

    def admit(self, request: web.BaseRequest) -> Place:
        """Give a place to who sends a request; ``with`` it, or `Place.take` it, for as long
        as it is needed.

        Raises:
            web.HTTPTooManyRequests: There are too many of its address, or too often.
            web.HTTPServiceUnavailable: There are too many, or they come too fast.
        """
        address = self._clients.counted_as(request)
        if address:
            if self._addresses[address] >= self._limits.address_connections:
                self._metrics.count("address_full_refused")
                self._log("address_connections", address)
                raise _too_many(FULL_RETRY_S)
            if not self._coming_from.take(address):
                self._metrics.count("address_rate_refused")
                self._log("address_connects_per_s", address)
                raise _too_many(self._coming_from.wait_s(address))
        if self._count >= self._most:
            self._metrics.count("process_full_refused")
            self._log("connections")
            raise _unavailable(FULL_RETRY_S)
        if not self._coming.take():
            self._metrics.count("process_rate_refused")
            self._log("connects_per_s")
            raise _unavailable(self._coming.wait_s())
        return Place(self, address)

    def claim(self, user_id: str) -> bool:
        """Count one more connection of a user; ``False`` if he has all he may have."""
        if self._users[user_id] >= self._limits.user_connections:
            self._metrics.count("user_full_refused")
            self._log("user_connections", user_id)
            return False
        self._users[user_id] += 1
        return True

    def fine(self, address: str) -> None:
        """Let an address pay for a flood."""
        if address:
            self._coming_from.take(address, FLOOD_COSTS)

    def take(self, address: str) -> None:
        self._count += 1
        if address:
            self._addresses[address] += 1

    def give_back(self, address: str, user_id: str) -> None:
        self._count -= 1
        _less(self._addresses, address)
        _less(self._users, user_id)

    def _log(self, limit: str, who: str = "") -> None:
        if self._may_log((limit, who)):
            of = f" of {who[:100]!r}" if who else ""
            logger.warning(
                "refused a connection%s: over limits[%r]; said once a minute", of, limit
            )


class Place:
    """One connection's part of what a process can carry."""

    __slots__ = ("_address", "_admission", "_user_id")

    def __init__(self, admission: Admission, address: str) -> None:
        self._admission = admission
        self._address = address
        self._user_id = ""

    def claim(self, user_id: str) -> bool:
        """Say whose it is; ``False`` if the user has all he may have. Nobody (``""``) may
        have as many as there are."""
        if not user_id or user_id == self._user_id:
            return True
        if not self._admission.claim(user_id):
            return False
        self._user_id = user_id
        return True

    def claim_or_refuse(self, user_id: str) -> None:
        """`claim`, before the upgrade.

        Raises:
            web.HTTPTooManyRequests: The user has all he may have.
        """
        if not self.claim(user_id):
            raise _too_many(FULL_RETRY_S)

    def flooded(self) -> None:
        """Who has it sent more than it may."""
        self._admission.fine(self._address)

    def take(self) -> None:
        """Be counted, until `give_back`."""
        self._admission.take(self._address)

    def give_back(self) -> None:
        """Be counted no more; once."""
        self._admission.give_back(self._address, self._user_id)

    def __enter__(self) -> Place:
        self.take()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.give_back()


def _as_files_allow(connections: int) -> int:
    """So many as there may be, or as may be open as files where that is less."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files == resource.RLIM_INFINITY or files - SPARE_FILES >= connections:
        return connections
    most = max(1, files - SPARE_FILES)
    logger.log(
        logging.WARNING if most < connections / 2 else logging.INFO,
        "this process may open %d files, so it serves %d connections, not the %d of "
        'limits["connections"]; raise it with ulimit -n or LimitNOFILE=',
        files,
        most,
        connections,
    )
    return most


def _less(counts: Counter[str], key: str) -> None:
    if key:
        counts[key] -= 1
        if counts[key] <= 0:
            del counts[key]


def _after(seconds: float) -> dict[str, str]:
    return {hdrs.RETRY_AFTER: str(max(1, math.ceil(seconds)))}


def _too_many(seconds: float) -> web.HTTPTooManyRequests:
    return _closing(web.HTTPTooManyRequests(text=_TOO_MANY, headers=_after(seconds)))


def _unavailable(seconds: float) -> web.HTTPServiceUnavailable:
    return _closing(web.HTTPServiceUnavailable(text=_LATER, headers=_after(seconds)))


def _closing(answer: _Answer) -> _Answer:
    # What is refused must not keep an open file for its next request.
    answer.force_close()
    return answer
