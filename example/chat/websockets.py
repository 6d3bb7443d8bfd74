"""Sockets with code of their own, found because the app is installed.

The page of a correspondence needs none: it uses the live endpoint. Here are the three ways
to hear a channel in Python: ready-made frames straight to the socket (``follow``), a
callback that gets the saved model (``read_messages``), and the package's own handler for
everything one is subscribed to (``subscriptions``). All know the user by the session
cookie of whoever opened them.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import WSCloseCode

from redis_pubsub.contrib.websockets import websocket_pubsub
from redis_pubsub.contrib.websockets.subscriptions import subscriptions

from .models import LATEST, Message, name_of

if TYPE_CHECKING:
    from redis_pubsub import SubscriptionManager
    from redis_pubsub.contrib.websockets.socket import HandlerSocket

handlerconf = ["follow", "read_messages", "subscriptions"]

EXCERPT = 80
NOT_SUBSCRIBED = "not subscribed"

__all__ = ["follow", "handlerconf", "read_messages", "subscriptions"]


@websocket_pubsub(r"/correspondences/{pk:\d+}/", authenticate=True)
async def follow(
    ws: HandlerSocket, params: Any, manager: SubscriptionManager, user: Any, **kwargs: Any
) -> None:
    """Every new message of one correspondence, as ``Message.serialize`` made it: for
    programs that just read JSON.

    The first frame, ``{"latest": […]}``, holds the last messages: what was written while
    the program had no socket is among them, and it drops those it knows.
    """
    subscription = await user.subscriptions.filter(
        active=True, channel__publishable_chat_correspondences__pk=params["pk"]
    ).afirst()
    if subscription is None:
        await ws.close(code=WSCloseCode.POLICY_VIOLATION, message=NOT_SUBSCRIBED)
        return
    # Heard first and read then: nothing can fall between the two.
    [reader] = await manager.forward(ws, subscription)
    rows = Message.objects.filter(correspondence=params["pk"]).select_related("author")
    latest = [row.serialize() async for row in rows.order_by("-pk")[:LATEST]]
    await ws.send_json({"latest": latest[::-1]})
    # Over when the client leaves, or is no longer subscribed.
    assert reader.future is not None, "it listens"
    await asyncio.wait([reader.future])
    await ws.close(code=WSCloseCode.POLICY_VIOLATION, message=NOT_SUBSCRIBED)


@websocket_pubsub(authenticate=True)
async def read_messages(
    ws: HandlerSocket, params: Any, manager: SubscriptionManager, user: Any, **kwargs: Any
) -> None:
    """An alert for every new message, whichever page of the site is open.

    The first frame, ``{"ready": true}``, says that from here on nothing is missed.
    """

    def send_message_alert(channel_name: str, message: Any) -> None:
        if not isinstance(message, Message):
            return
        correspondence = message.correspondence
        ws.send_json(
            {
                "message": f"new message from {name_of(message.author)}",
                "is_own": message.author_id == user.pk,
                "correspondence": correspondence.pk,
                "url": correspondence.get_absolute_url(),
                "subject": correspondence.subject,
                "author": name_of(message.author),
                "excerpt": message.body[:EXCERPT],
                "sent_at": message.sent_at.isoformat(),
            }
        )

    await manager.listen_to_all_subscriptions(user, send_message_alert)
    await ws.send_json({"ready": True})
    async for _ in ws:
        pass  # The page says nothing; this waits until it is left.
