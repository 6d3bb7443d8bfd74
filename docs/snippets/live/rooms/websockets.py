# websockets.py
from dataclasses import dataclass

from django.core.cache import cache
from django.core.exceptions import PermissionDenied

from redis_pubsub import apublish
from redis_pubsub.contrib.live import RPCError, on_message, rpc

from .models import Post

LONGEST = 500


# [say]
@dataclass
class NewPost:
    room: int
    text: str


@rpc("say")
def say(user, data: NewPost):  # a plain function: runs in a database thread
    room = user.rooms.filter(pk=data.room).first()
    if room is None:
        raise PermissionDenied  # error 103
    if len(data.text) > LONGEST:
        raise RPCError(413, "too long")
    return {"pk": Post.objects.create(room=room, text=data.text).pk}


# [typing]
@rpc("typing")
async def typing(user, room: int):  # a coroutine function: runs on the event loop
    if not await user.rooms.filter(pk=room).aexists():
        raise PermissionDenied
    await apublish(f"room:{room}", {"user": user.pk}, event="typing", history=False)


# [on_message]
@on_message
async def seen(user, data: int):
    await cache.aset(f"seen:{user.pk}", data)


# [end]
