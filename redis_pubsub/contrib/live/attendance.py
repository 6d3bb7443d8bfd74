"""Who hears which channel: what presence is told of this process's connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from ...broker.presence import presence_channel
from ...engine import Engine
from ...exceptions import BrokerUnavailable
from ...options import ChannelOptions

if TYPE_CHECKING:
    from .connection import Connection
    from .entering import Entry

logger = logging.getLogger("redis_pubsub.live")

COME_BACK_S = (1.0, 5.0)
"""When a client that could not be made present is asked to come back: between these."""
BY_USER = "user"


class Attendance:
    """Keeps the presence of live connections for one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def enter(self, connection: Connection, entries: Sequence[Entry]) -> None:
        """Be there. Comings and goings are heard first: the client hears its own."""
        attended = [
            entry for entry in entries if entry.options.presence or entry.options.join_leave
        ]
        if attended:
            await asyncio.gather(*(self._enter(connection, entry) for entry in attended))

    async def _enter(self, connection: Connection, entry: Entry) -> None:
        options = entry.options
        info = connection.info(entry.chan_info)
        try:
            if options.join_leave and connection.hears_unasked:
                companion = presence_channel(entry.channel)
                await self._engine.hub.listen(companion, connection.feeding.joins)
            await self._engine.presence.enter(
                entry.channel,
                connection.id,
                connection.user_id,
                msgspec.json.encode(info),
                by_user=options.presence_by == BY_USER,
                announce=options.join_leave,
            )
        except BrokerUnavailable as error:
            logger.warning("presence of %r could not be kept: %s", entry.channel, error)
            # It comes back by itself, and is counted then; not at once, since clients
            # do that without a pause.
            connection.come_back_within(entry.channel, COME_BACK_S)
        if entry.channel not in connection.session.channels:
            # It left while this was under way.
            self.exit(connection, entry.channel)

    def exit(self, connection: Connection, channel: str) -> None:
        """Be there no more. Nobody is told of his own leaving."""
        options = self._engine.config.model_channel_options(channel)
        if options.join_leave:
            self._engine.hub.leave(presence_channel(channel), connection.feeding.joins)
        if options.presence or options.join_leave:
            self._engine.presence.exit(
                channel, connection.id, delay_s=options.leave_delay_s
            )

    async def infos(self, channel: str, options: ChannelOptions) -> dict[str, Raw]:
        """Connection ids and what others may know of them; one for each user where the
        channel counts users.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        members = await self._engine.presence.members(channel)
        if options.presence_by == BY_USER:
            first = {member.user or member.client: member for member in reversed(members)}
            members = list(first.values())
        return {member.client: Raw(member.info) for member in members}

    async def counts(self, channel: str) -> tuple[int, int]:
        """Connections and users.

        Raises:
            BrokerUnavailable: Redis did not answer.
        """
        counts = await self._engine.presence.counts(channel)
        return counts.clients, counts.users
