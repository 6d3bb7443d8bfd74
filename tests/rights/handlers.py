"""What the site of these tests serves, and its rule of who may hear what."""

from __future__ import annotations

import os

from aiohttp import WSMsgType

from redis_pubsub.contrib.live import rpc
from redis_pubsub.contrib.websockets import websocket_pubsub


@websocket_pubsub("/mine", authenticate=True)
async def mine(ws, params, manager, user):
    """Says which process it is, and forwards what its user subscribes to."""
    await manager.forward_all_subscriptions(ws, user)
    await ws.send_str(str(os.getpid()))
    while (await ws.receive()).type is WSMsgType.TEXT:
        await ws.send_str("pong")


@rpc()
async def pid(user, params):
    """Which process it is."""
    return os.getpid()


def by_permission(*, user, channel, **question):
    """The site's rule: channels of accounts by a permission."""
    if channel != "accounts":
        return None
    return user is not None and user.has_perm("auth.change_user")
