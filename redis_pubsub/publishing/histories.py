"""What channels keep, for views, commands and coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from asgiref.sync import sync_to_async

from ..audiences import Audiences, is_for_everybody
from ..broker import FORWARD, REVERSE, History, Read
from ..conf import get_config
from ..db import Orm
from ..engine import current_engine
from ..exceptions import PositionLost
from ..messages import Message, Position, check_channel_name
from .publisher import publisher
from .sending import refuse_on_loop

NOBODY = object()
"""Instead of a user: what not everybody sees alike is left out."""


def history(
    channel: str,
    *,
    limit: int = 100,
    since: Position | None = None,
    reverse: bool = False,
    user: Any = NOBODY,
) -> list[Message]:
    """What a channel keeps, oldest first.

    Args:
        channel: Its name.
        limit: How many at most.
        since: Only what came after this position; with ``reverse``, before it.
        reverse: Newest first.
        user: Who looks (``AnonymousUser`` counts), where each audience sees something else.
            Without one what is not for everybody's eyes is left out.

    Returns:
        Messages: each has ``payload``, ``event``, ``position``, ``model``, ``pk``, ``id``
        and ``header.sent_at``. None for a channel without history.

    Raises:
        PositionLost: ``since`` is of another life of the history.
        BrokerUnavailable: Redis did not answer.
        InvalidChannelName: The name is empty, too long or has control characters.
        RuntimeError: Called on a running event loop; use `ahistory`.
    """
    read = _read_of(channel, limit, since, reverse)
    found = _messages(channel, since, _blocking([read], "history")[0])
    return _seen_by(user, found)


async def ahistory(
    channel: str,
    *,
    limit: int = 100,
    since: Position | None = None,
    reverse: bool = False,
    user: Any = NOBODY,
) -> list[Message]:
    """`history` for coroutines."""
    read = _read_of(channel, limit, since, reverse)
    found = _messages(channel, since, (await _read([read]))[0])
    if all(is_for_everybody(get_config(), message) for message in found):
        return found
    return await sync_to_async(_seen_by)(user, found)


def last(*channels: str) -> Message | None:
    """The last message that a channel keeps; of several channels, the first of them that
    keeps any. One round trip. What each audience sees in its own way is left out.

    ``last(*personal_channels(request))`` is what was last said to whoever asks: to his
    session, to him, to his groups, or to everybody.

    Raises:
        BrokerUnavailable: Redis did not answer.
        InvalidChannelName: A name is empty, too long or has control characters.
        RuntimeError: Called on a running event loop; use `alast`.
    """
    return _first(_blocking([_last_of(channel) for channel in channels], "last"))


async def alast(*channels: str) -> Message | None:
    """`last` for coroutines."""
    return _first(await _read([_last_of(channel) for channel in channels]))


def _read_of(channel: str, limit: int, since: Position | None, reverse: bool) -> Read:
    if limit < 1:
        raise ValueError(f"a history is read from 1 message on, not {limit}")
    return Read(
        check_channel_name(channel),
        since=since.offset if since else None,
        limit=limit,
        order=REVERSE if reverse else FORWARD,
        begins=False,
    )


def _last_of(channel: str) -> Read:
    return Read(check_channel_name(channel), limit=1, order=REVERSE, begins=False)


def _messages(channel: str, since: Position | None, found: History) -> list[Message]:
    if since is not None and since.epoch not in ("", found.position.epoch):
        raise PositionLost(channel)
    return found.messages


def _seen_by(user: Any, messages: list[Message]) -> list[Message]:
    """What one user sees of messages, where not everybody sees alike."""
    config = get_config()
    shown = [message for message in messages if is_for_everybody(config, message)]
    if user is NOBODY or len(shown) == len(messages):
        return shown
    orm = Orm(1, 1)
    try:
        audiences = Audiences(config, orm, publisher.metrics)
        known = user if user is not None and user.is_authenticated else None
        return audiences.seen_by(messages, known)
    finally:
        orm.close()


def _first(histories: Sequence[History]) -> Message | None:
    tops = (found.messages[0] for found in histories if found.messages)
    config = get_config()
    return next((top for top in tops if is_for_everybody(config, top)), None)


def _blocking(reads: Sequence[Read], name: str) -> list[History]:
    refuse_on_loop(name)
    return publisher.broker().read(reads) if reads else []


async def _read(reads: Sequence[Read]) -> list[History]:
    if not reads:
        return []
    engine = current_engine()
    if engine is None:
        return await asyncio.to_thread(lambda: publisher.broker().read(reads))
    # Its connections are not the threads': what they posted is read as well.
    await publisher.asettle()
    return await engine.hub.broker.read(reads)
