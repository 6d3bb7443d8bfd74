import json

from redis_pubsub.contrib.websockets import websocket, websocket_pubsub
from redis_pubsub.models import Channel


# [read_messages]
@websocket_pubsub(authenticate=True)  # at /read_messages/
async def read_messages(ws, params, user, manager):
    subscription = await user.subscriptions.aget(
        channel__name=params["channel"], active=True
    )
    reader = subscription.get_reader(manager=manager)

    @reader.callback
    def send_message_alert(channel_name, message):
        # A plain function runs in a database thread: relations may be followed.
        ws.send_json({"message": f"new message from {message.author.get_full_name()}"})

    listener = await reader.listen()
    await listener


# [myhandler]
@websocket("/")  # this handler is at ws://yourapp.com/
async def myhandler(ws, params, **kwargs):
    await ws.send_str("hello")


# [echo]
@websocket("/echo")
async def echo(ws, params, **kwargs):
    message = await ws.receive()
    ws.send_str(message.data)


# [message_pusher]
@websocket_pubsub("/messages", authenticate=True)
async def message_pusher(ws, params, manager, user, **kwargs):
    subscription = await user.subscriptions.aget(channel__name="messages", active=True)
    reader = subscription.get_reader(manager=manager)

    @reader.callback
    def callback(channel_name, message):
        ws.send_json(
            {channel_name: {"author": message.author.username, "body": message.body}}
        )

    listener = await reader.listen()
    await listener


# [message_stream]
@websocket_pubsub("/messages/stream", authenticate=True)
async def message_stream(ws, params, manager, user, **kwargs):
    subscription = await user.subscriptions.aget(channel__name="messages", active=True)

    async for message in subscription.get_reader(manager=manager):
        await ws.send_json({"messages": message.body})


# [subscriptions]
@websocket_pubsub("/subscriptions", authenticate=True)
async def subscriptions(ws, params, manager, user, **kwargs):
    def callback(channel_name, message):
        ws.send_str(message.serialize())

    await manager.listen_to_all_subscriptions(user, callback)

    async for frame in ws:
        command = json.loads(frame.data)
        # Only channels of one's own correspondences; anybody could ask for any name.
        channel = await Channel.objects.filter(
            name=command["channel"],
            publishable_letters_correspondences__participants=user,
        ).afirst()
        if channel is None:
            await ws.send_json({"error": "permission denied"})
        elif command["action"] == "subscribe":
            await channel.asubscribe(user)
        elif command["action"] == "unsubscribe":
            await channel.aunsubscribe(user)


# [handlerconf]
handlerconf = [
    "read_messages",
    "myhandler",
    "echo",
    "message_pusher",
    "message_stream",
    "subscriptions",
]
