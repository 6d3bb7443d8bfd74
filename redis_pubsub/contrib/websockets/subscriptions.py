"""A ready handler: hear all one's subscriptions, and change them, over one socket.

List it in a ``websockets.py``::

    from redis_pubsub.contrib.websockets.subscriptions import subscriptions
    handlerconf = ["subscriptions"]

The client sends ``{"action": "subscribe" | "unsubscribe", "channel": name}`` and gets
``{"ok": action, "channel": name}`` or ``{"error": text, "channel": name}``; a publication
arrives as ``{"channel": name, "event": word, "payload": …}``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import WSMsgType

from ...addresses import GROUP, SESSION, address_of
from ...auth import Authorizer
from ...engine import Engine
from ...exceptions import InvalidChannelName
from ...frames import frame
from ...messages import Message, check_channel_name
from ...models import Channel, Subscription
from .handlers import websocket_pubsub

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

    from ...readers import SubscriptionManager
    from .socket import HandlerSocket

BAD_COMMAND = 'send {"action": "subscribe" or "unsubscribe", "channel": name}'
DENIED = "permission denied"


class Command(msgspec.Struct):
    """What a client sends."""

    action: str
    channel: str


_decoder = msgspec.json.Decoder(Command)
_encode = msgspec.json.encode


def publication_frame(message: Message) -> bytes:
    """A publication as this protocol sends it; the payload's bytes are spliced in."""
    head = _encode({"channel": message.channel, "event": message.event})
    return frame(b'%s,"payload":%s}' % (head[:-1], message.raw))


@websocket_pubsub("/subscriptions/", authenticate=True)
async def subscriptions(
    ws: HandlerSocket, params: Any, manager: SubscriptionManager, user: AbstractBaseUser
) -> None:
    """Forward every active subscription and obey the client's commands."""
    engine = await manager.get_engine()
    await manager.forward_all_subscriptions(ws, user, framing=publication_frame)
    while True:
        message = await ws.receive()
        if message.type is not WSMsgType.TEXT:
            break
        reply = await _obey(message.data, engine, ws.id, manager, user)
        await ws.send_str(_encode(reply).decode())


async def _obey(
    text: str,
    engine: Engine,
    connection: str,
    manager: SubscriptionManager,
    user: AbstractBaseUser,
) -> dict[str, str]:
    try:
        command = _decoder.decode(text)
        name = check_channel_name(command.channel)
    except (msgspec.MsgspecError, InvalidChannelName):
        return {"error": BAD_COMMAND}
    if command.action == "subscribe":
        is_done = await _subscribe(engine, connection, user, name)
        error = DENIED
    elif command.action == "unsubscribe":
        is_done = await engine.orm.run(_unsubscribe, user, name)
        error = "not subscribed"
    else:
        return {"error": BAD_COMMAND, "channel": name}
    if not is_done:
        return {"error": error, "channel": name}
    # Not left to the control channel: after the reply the change has happened.
    await manager.refresh(user)
    return {"ok": command.action, "channel": name}


async def _subscribe(
    engine: Engine, connection: str, user: AbstractBaseUser, name: str
) -> bool:
    authorizer = Authorizer(engine.config, engine.orm)
    address = address_of(name)
    if address is not None and address.kind in (GROUP, SESSION):
        # A stored subscription would outlive the membership that allows it.
        return False
    if not await authorizer.may_subscribe(user, name, connection=connection):
        return False
    return await engine.orm.run(_add, user, name)


def _add(user: AbstractBaseUser, name: str) -> bool:
    channel = Channel.objects.filter(name=name).first()
    if channel is None:
        # The same answer as for a channel that is not the user's: names are not told.
        return False
    channel.subscribe(user)
    return True


def _unsubscribe(user: AbstractBaseUser, name: str) -> bool:
    subscription = Subscription.objects.filter(
        subscriber=user, channel__name=name, active=True
    ).first()
    return subscription is not None and subscription.channel.unsubscribe(user)
