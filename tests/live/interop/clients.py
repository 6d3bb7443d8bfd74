"""Clients of the Python library as published, and what tests need around them."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

import centrifuge

PATIENCE_S = 15.0


def channel_in(namespace: str) -> str:
    """A channel's name that no other test has."""
    return f"{namespace}:{uuid.uuid4()}"


def user_name() -> str:
    return f"user-{uuid.uuid4()}"


class Events:
    """What a client or subscription has said, in order, and a way to wait for more."""

    def __init__(self, unpack: Callable[[Any], Any]) -> None:
        self.all: list[tuple[str, Any]] = []
        self._unpack = unpack
        self._waiting: set[asyncio.Event] = set()

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)

        async def heard(context: Any) -> None:
            if getattr(context, "channel", "") == "broadcast":
                # It comes along with one's own channel; tests speak of that.
                return
            self.all.append((name.removeprefix("on_"), context))
            for event in self._waiting:
                event.set()

        return heard

    def of(self, name: str) -> list[Any]:
        """All of a kind."""
        return [context for kind, context in self.all if kind == name]

    @property
    def payloads(self) -> list[Any]:
        """What was published, as values."""
        return [self._unpack(context.pub.data) for context in self.of("publication")]

    async def until(self, name: str, times: int = 1) -> Any:
        """Wait until there are so many of a kind; gives the last of these."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            async with asyncio.timeout(PATIENCE_S):
                while len(self.of(name)) < times:
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            raise AssertionError(f"waited for {times} × {name}, got {self.all}") from None
        finally:
            self._waiting.discard(changed)
        return self.of(name)[times - 1]


class Client:
    """A client of one form, whose payloads are values here.

    Attributes:
        events: What it said.
        library: The library's own object.
    """

    def __init__(self, url: str, use_protobuf: bool, **options: Any) -> None:
        self._use_protobuf = use_protobuf
        self.events = Events(self.unpack)
        self.library = centrifuge.Client(
            f"{url.replace('http', 'ws')}/connection/websocket",
            events=self.events,
            use_protobuf=use_protobuf,
            **{
                "max_reconnect_delay": 0.5,
                "proxy": None,
                **options,
            },
        )

    def pack(self, value: Any) -> Any:
        return json.dumps(value).encode() if self._use_protobuf else value

    def unpack(self, data: Any) -> Any:
        return json.loads(data or b"null") if self._use_protobuf else data

    @property
    def id(self) -> str:
        """The first id that the server gave it."""
        return str(self.events.of("connected")[0].client)

    async def connect(self) -> Client:
        """Connect, and wait until the server has let it in."""
        await self.library.connect()
        await self.library.ready()
        return self

    async def call(self, method: str, value: Any = None) -> Any:
        return self.unpack((await self.library.rpc(method, self.pack(value))).data)

    async def publish(self, channel: str, value: Any) -> None:
        await self.library.publish(channel, self.pack(value))

    async def history(self, channel: str, **options: Any) -> tuple[list[Any], Any]:
        """What is stored, as values, and the whole answer."""
        found = await self.library.history(channel, **options)
        return [self.unpack(each.data) for each in found.publications], found

    def new_sub(self, channel: str, **options: Any) -> Sub:
        return Sub(self, channel, **options)

    async def subscribe(self, channel: str, **options: Any) -> Sub:
        """Subscribe, and wait until the server has confirmed it."""
        sub = self.new_sub(channel, **options)
        await sub.library.subscribe()
        await sub.events.until("subscribed")
        return sub


class Sub:
    """A subscription, not yet asked for."""

    def __init__(self, client: Client, channel: str, **options: Any) -> None:
        self.channel = channel
        self.events = Events(client.unpack)
        self.library = client.library.new_subscription(
            channel, events=self.events, max_resubscribe_delay=0.5, **options
        )
