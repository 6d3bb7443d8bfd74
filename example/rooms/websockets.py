"""A room's socket: what is said, who is typing and who is here, while one is in it."""

from __future__ import annotations

import json
from typing import Annotated

import msgspec

from redis_pubsub.contrib.events import EventConnection, EventSocket
from redis_pubsub.engine import current_engine
from redis_pubsub.hub.presence import Presence

from ..chat.models import name_of

TEXT_MAX = 500

handlerconf = ["room"]

room = EventSocket("/room/{name}/", authenticate=True)


class Saying(msgspec.Struct):
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=TEXT_MAX)]


@room.on("say")
async def say(socket: EventConnection, data: Saying) -> None:
    """To everybody in the room, also to who said it."""
    await room.emit("said", {**person(socket), "text": data.text})


@room.on("typing")
async def typing(socket: EventConnection) -> None:
    await room.emit("typing", person(socket), exclude=socket.id)


@room.on("who")
async def who(socket: EventConnection) -> None:
    """Asked by a page whenever it comes in, and now and then: a process that was killed
    has told nobody that its people left."""
    members = await presence().members(place(socket))
    socket.emit("here", [json.loads(member.info) for member in members])


@room.on_open
async def join(socket: EventConnection) -> None:
    me = person(socket)
    user, info = str(socket.user.pk), json.dumps(me).encode()
    try:
        await presence().enter(place(socket), socket.id, user, info)
        await room.emit("joined", me, exclude=socket.id)
    except BaseException:
        # Who was not let in has no close hook.
        presence().exit(place(socket), socket.id)
        raise


@room.on_close
async def leave(socket: EventConnection, code: int) -> None:
    presence().exit(place(socket), socket.id)
    await room.emit("left", person(socket))


def person(socket: EventConnection) -> dict[str, str]:
    """What the pages get: two tabs of one user are two connections."""
    return {"id": socket.id, "by": name_of(socket.user)}


def place(socket: EventConnection) -> str:
    """Where the room's connections are listed."""
    return f"room:{socket.params['name']}"


def presence() -> Presence:
    engine = current_engine()
    assert engine is not None, "sockets are served by one"
    return engine.presence
