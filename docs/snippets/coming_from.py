import logging

from django.http import HttpResponse, JsonResponse
from django.views import View

from redis_pubsub import (
    apublish,
    consumer,
    disconnect,
    last,
    personal_channels,
    publish,
    publish_to,
    receiver,
    send,
    send_to,
)
from redis_pubsub.auth.authorize import SUBSCRIBE
from redis_pubsub.contrib.websockets import websocket_pubsub

logger = logging.getLogger(__name__)


# [chat]
@websocket_pubsub("/chat/{room}/", authenticate=True)
async def chat(ws, params, manager, user):
    room = params["room"]
    if not await user.groups.filter(name=room).aexists():
        await ws.close(code=4003, message="not a member")
        return

    await manager.forward(ws, f"chat:{room}")
    await ws.send_json({"hello": user.get_username()})
    async for message in ws:
        text = message.json()["text"]
        await apublish(f"chat:{room}", {"by": user.get_username(), "text": text})


# [anywhere]
def close_for_tonight(room):
    """In a view, a command, a task, the shell."""
    publish(f"chat:{room}", {"by": "the house", "text": "We close in ten minutes."})


def export_is_ready(connection_id, url):
    """To one socket: ``ws.connection_id``."""
    send_to(connection_id, {"export": url})


def kick(connection_id):
    disconnect(connection=connection_id, code=4001, reason="house rules")


# [tasks]
def my_view(request):
    send("a_task_channel", value=3)
    return HttpResponse("answered before the task runs")


@consumer("a_task_channel")
def some_task(value):
    print(f"My value was {value}")


# [stream]
def can_read(*, user, channel, action, token, connection):
    """An ``authorize_method``: channels that begin with ``_`` are for users."""
    if channel.startswith("_"):
        return user is not None and action == SUBSCRIBE
    return None


# [audience]
class Notices(View):
    """Everybody who listens to the topic, and who comes within the hour."""

    def post(self, request):
        publish_to(request.POST["text"], broadcast=True, topic="notices", expire_s=3600)
        return HttpResponse(status=204)

    def get(self, request):
        key = request.session.session_key
        message = last(*personal_channels(request.user, key, topic="notices"))
        return JsonResponse({"notice": message.payload if message else None})


# [callbacks]
@websocket_pubsub("/shout/")
async def shout(ws, params, manager):
    # opener
    await manager.forward(ws, "websocket")
    await ws.send_str("hello")
    try:
        async for message in ws:  # receiver
            await apublish("websocket", message.data)
    finally:  # closer
        logger.info("%s has left", ws.connection_id)


@receiver(["orders", "orders:*"])  # sender: in each process, with its sockets
async def to_the_buyer(message, sockets):
    for socket in sockets:
        if socket.user_id == str(message.payload["buyer"]):
            socket.send({"your order": message.payload["state"]})


# [shell]
def hello_world():
    publish("websocket", "Hello world !")


# [end]
