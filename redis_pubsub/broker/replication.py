"""Which server is connected: after a failover another, which may lack what was said last.

Scripts are told the server's ids, and those who compare them know a history that went back.
Without a connection; both sides of the broker ask `REPLICATION` and give the answer here.
"""

from __future__ import annotations

import logging
import time
from contextvars import ContextVar
from typing import Any

from redis.exceptions import ConnectionError

from ..metrics import Occasionally
from ..options import BrokerOptions
from .addresses import is_sentinel

logger = logging.getLogger("redis_pubsub.broker")

SERVER = object()
"""Last in a command: where the server's ids go that are known when it is sent."""
REPLICATION = ("INFO", "replication")

_FRESH_S = 10.0


class ServerChanged(ConnectionError):
    """A new connection reached another server than before; nothing was sent to it."""


class Replication:
    """What one broker knows of the server behind its connections.

    Args:
        options: Address: sentinels may name a server that is no master any more.
    """

    def __init__(self, options: BrokerOptions) -> None:
        self._is_by_sentinel = is_sentinel(options.url)
        self._may_log = Occasionally()
        # Which server this is, and which it followed before: ("", "") if it does not say.
        self.ids = ("", "")
        self._read_at = 0.0
        # By task or thread: which server the commands under way were made for.
        self._made_with: ContextVar[tuple[str, str]] = ContextVar(
            "made_with", default=("", "")
        )

    def connected(self, info: Any) -> None:
        """A new connection was made; its answer to `REPLICATION`.

        Raises:
            ServerChanged: It is another server than the waiting commands were made for.
        """
        if not isinstance(info, Exception):
            self.refuse_replica(info)
        self.read(info)
        if self.ids != self._made_with.get():
            raise ServerChanged

    def refuse_replica(self, info: bytes) -> None:
        """Whom sentinels call the master may have been demoted a moment ago.

        Raises:
            ConnectionError: It was. Without sentinels the URL decides.
        """
        role = _fields(info).get("role", "master")
        if self._is_by_sentinel and role != "master":
            raise ConnectionError(f"the sentinels name a server that is a {role}")

    def is_due(self) -> bool:
        """Whether the next commands should be preceded by `REPLICATION`: a server's id
        changes also when its first replica comes."""
        return time.monotonic() - self._read_at > _FRESH_S

    def begin(self) -> None:
        """A pipeline is made now: for the server that is known now."""
        self._made_with.set(self.ids)

    def ready(self, command: tuple[Any, ...]) -> tuple[Any, ...]:
        """A command as it is sent now."""
        return command[:-1] + self.ids if command[-1] is SERVER else command

    def read(self, info: Any) -> None:
        """Take what `REPLICATION` says of the server that is connected now."""
        self._read_at = time.monotonic()
        if isinstance(info, Exception):
            if self._may_log("replication"):
                logger.warning(
                    "INFO replication is refused (%s): a failover that loses messages is "
                    "noticed only by those who are ahead of it",
                    info,
                )
            return
        known = _fields(info)
        self.ids = (known.get("master_replid", ""), known.get("master_replid2", ""))


def raw_info(client: Any) -> None:
    """Make a client give the answer to ``INFO`` as it is: redis-py would turn an id that
    looks like a number into one."""
    client.response_callbacks.pop("INFO", None)


def _fields(info: bytes) -> dict[str, str]:
    return dict(line.split(":", 1) for line in info.decode().splitlines() if ":" in line)
