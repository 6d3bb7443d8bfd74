"""Where channels stand, for pages that show their state and then follow them.

The one rule: the position is read *before* the data. What is committed and published in
between is then in both, and applied twice, which is harmless; the other way round it
would be in neither.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from ..broker import Read
from ..conf import get_config
from ..exceptions import BrokerUnavailable, InvalidChannelName
from ..messages import Position, check_channel_name
from ..metrics import Occasionally
from .publisher import publisher

logger = logging.getLogger("redis_pubsub.publishing")

UNKNOWN = Position("_", 0)
"""A position that no channel ever has: a client that comes with it is told that it was not
recovered, and loads its state anew."""

_may_log = Occasionally()


def positions(channels: Iterable[str]) -> dict[str, Position]:
    """Where channels stand now, in one round trip; begins their history where there is
    none. Blocking.

    Returns:
        By channel; what is no channel's name (a visitor's text in a URL) is missing, and
        so is one that may keep no history. If Redis is down all are
        `UNKNOWN`, so that the page is shown, and repaired once its client connects.
    """
    config = get_config()
    names = [name for name in dict.fromkeys(channels) if _is_name(name)]
    kept = [name for name in names if config.model_channel_options(name).has_history]
    for name in names:
        if name not in kept and _may_log(name):
            logger.warning(
                "a page follows %r, which keeps no history: what is published while the "
                'page is made is missed; see "history_size" in the settings',
                name,
            )
    if not kept:
        return {}
    try:
        histories = publisher.broker().read([Read(name, limit=0) for name in kept])
    except BrokerUnavailable as error:
        publisher.metrics.count("positions_unread")
        logger.error("a page cannot say where its channels stand: %s", error)
        return dict.fromkeys(kept, UNKNOWN)
    return {name: history.position for name, history in zip(kept, histories, strict=True)}


def _is_name(text: str) -> bool:
    try:
        check_channel_name(text)
    except InvalidChannelName:
        return False
    return True


def refuse_old_snapshot(how: str) -> None:
    """Refuse to read a position inside a transaction that looks at an older state.

    Under REPEATABLE READ (and in SQLite) a transaction sees the database as it was at its
    first query: a position read later is newer than the data, and what lies between them
    would be lost.

    Args:
        how: What to do instead.

    Raises:
        ImproperlyConfigured: There is such a transaction.
    """
    for connection in connections.all(initialized_only=True):
        if _has_snapshot(connection):
            raise ImproperlyConfigured(
                f"this position would be newer than the data: the transaction on "
                f"{connection.alias!r} looks at the database as it was at its first query, "
                f"before now; {how}"
            )


def _has_snapshot(connection: BaseDatabaseWrapper) -> bool:
    """Whether a transaction of the request is open that keeps an earlier state."""
    blocks = getattr(connection, "atomic_blocks", [])
    if not any(not block._from_testcase for block in blocks):
        return False
    if connection.vendor == "sqlite":
        return True
    level = getattr(connection, "isolation_level", None)
    if connection.vendor == "postgresql":
        # As psycopg numbers them: above READ COMMITTED.
        is_keeping = level is not None and int(level) >= _PG_REPEATABLE_READ
        return is_keeping and _has_begun(connection)
    return level is None or level.replace("-", " ") not in (
        "read committed",
        "read uncommitted",
    )


_PG_REPEATABLE_READ = 3
_PG_IDLE = 0


def _has_begun(connection: BaseDatabaseWrapper) -> bool:
    """Whether the transaction has had its first query: psycopg begins it with that."""
    if connection.connection is None:
        return False
    return int(connection.connection.info.transaction_status) != _PG_IDLE
