"""What a connection hears without asking, and making that true again when it changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .entering import Entering, Entry
from .protocol.commands import SubscribeRequest
from .protocol.results import SubscribeResult

if TYPE_CHECKING:
    from .connection import Connection


async def own_channels(connection: Connection) -> list[str]:
    """What a connection hears without asking.

    Raises:
        Exception: The database's, or the site's class's.
    """
    personal = connection.server.authorizer.personal
    return await personal.channels(connection.user, connection.credentials.session_key)


async def refresh_own_channels(connection: Connection) -> None:
    """Begin and end what a connection hears without asking, as it is now: its user may
    have joined a group, or left one.

    Raises:
        Exception: The database's, or the site's class's.
    """
    wanted = await own_channels(connection)
    session = connection.session
    for channel, heard in list(session.channels.items()):
        if heard.is_server_side and heard.is_confirmed and channel not in wanted:
            connection.unsubscribe(channel)
    added = [channel for channel in wanted if channel not in session.channels]
    entries = [Entry(each, SubscribeRequest(), is_server_side=True) for each in added]
    if not entries or session.ending is not None:
        return
    with Entering(connection, entries) as entering:
        await entering.prepare()
        entered = []
        for entry in entries:
            if session.ending is not None or entry.channel in session.channels:
                continue
            outcome = entering.admit(entry)
            if isinstance(outcome, SubscribeResult):
                session.was_subscribed(entry.channel, outcome)
                entered.append(entry)
        connection.flush()
        connection.replay(entered)
    await connection.entered(entered)
