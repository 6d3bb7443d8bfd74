"""What clients may call."""

import asyncio
import os
from collections import defaultdict
from dataclasses import dataclass

from django.core.exceptions import PermissionDenied

from redis_pubsub import apublish
from redis_pubsub.contrib.live import RPCError, on_message, rpc

doors: dict[str, asyncio.Event] = defaultdict(asyncio.Event)


@dataclass
class Sum:
    a: int
    b: int


@rpc()
async def echo(user, data):
    return data


@rpc("who")
def name_of(user, data):
    """Runs in a database thread."""
    return None if user is None else user.get_username()


@rpc()
async def add(user, data: Sum):
    return data.a + data.b


@rpc()
async def refuse(user, data):
    raise RPCError(1001, "not today", temporary=True)


@rpc()
async def forbid(user, data):
    raise PermissionDenied


@rpc()
async def fail(user, data):
    raise ZeroDivisionError


@rpc()
async def wait_at_door(user, data):
    await doors[data].wait()
    return "through"


@rpc()
async def open_door(user, data):
    doors[data].set()


@rpc()
async def outlive_pings(user, data):
    """Longer than two heartbeats of the server "brisk"."""
    await asyncio.sleep(4.2)
    return os.getpid()


@on_message
async def pass_on(user, data):
    await apublish(data["channel"], {"sent": data["text"]})
