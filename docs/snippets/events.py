from dataclasses import dataclass

import msgspec

from redis_pubsub.contrib.events import (
    EventError,
    EventModule,
    EventSocket,
    EventSocketHandler,
    event,
)


# [room]
class Said(msgspec.Struct):
    text: str


room = EventSocket("/room/{name}/", authenticate=True)


@room.on("say")
async def say(socket, data: Said):
    name = socket.user.get_username()
    # To everybody whose path has the same name, in every process.
    await room.emit("said", {"text": data.text, "by": name})


# [hooks]
@room.on_open
async def join(socket):
    await room.emit("joined", {"by": socket.user.get_username()}, exclude=socket.id)


@room.on_close
async def leave(socket, code):
    await room.emit("left", {"by": socket.user.get_username()})


# [checks]
def is_own_room(socket, data):
    return socket.params["name"] == socket.user.get_username()


@room.on("clear", permission="auth.change_user")
def clear(socket):
    room.emit("cleared")  # a plain function: a database thread, nothing to await


@room.on("rename", requires=is_own_room)
async def rename(socket, data: Said):
    if not data.text:
        raise EventError(400, "a room needs a name")
    await room.emit("renamed", {"text": data.text})


# [class]
class Table(EventSocketHandler):
    path = "/table/{number}/"

    def on_connect(self):
        if not self.params["number"].isdigit():
            self.deny("no such table")

    async def on_open(self):
        self.moves = 0
        if int(self.params["number"]) > 100:
            self.deny("there are 100 tables", code=4404)

    @event()
    async def move(self, data):
        self.moves += 1
        await self.events.emit("moved", {"move": data, "count": self.moves})

    @event()
    async def leave(self):
        await self.close(4000, "bye")


# [module]
chat = EventModule("chat")


@chat.on("say")
async def chat_say(socket, data: Said):
    await chat.emit("said", {"text": data.text})  # as "chat.said"


lobby = EventSocket("/lobby/")
lobby.bind(chat)


# [state]
@dataclass
class Score:
    points: int = 0


game = EventSocket("/game/", state=Score, protocols=["game.v2", "game.v1"])


@game.on("hit")
async def hit(socket):
    socket.state.points += 1
    socket.emit("score", {"points": socket.state.points})


@game.on_binary
async def recorded(socket, data):
    socket.send(data)  # bytes go back as bytes, a dict as JSON


# [emit]
def close_for_tonight(user):
    """From a view, a command, a signal, a task: after the commit."""
    room.emit("closing", {"at": "22:00"}, everywhere=True)
    room.emit("closing", {"at": "22:00"}, params={"name": "kitchen"})
    room.emit("bill", {"total": 12}, user=user)


# [listed]
handlerconf = ["room", "Table", "lobby", "game"]
