"""An event socket that writes down who came and went."""

import os
from pathlib import Path

from redis_pubsub.contrib.events import EventSocket

room = EventSocket("/room/{name}/")


def note(word, socket, code=0):
    if "EVENTS_LOG" in os.environ:
        with Path(os.environ["EVENTS_LOG"]).open("a") as log:
            log.write(f"{word} {socket.id} {code}\n")


@room.on_open
def came(socket):
    note("open", socket)


@room.on_open
async def greet(socket):
    socket.emit("hello", {"pid": os.getpid(), "id": socket.id})


@room.on_close
def went(socket, code):
    note("close", socket, code)


@room.on("say")
async def say(socket, data):
    await room.emit("said", data)


handlerconf = ["room"]
