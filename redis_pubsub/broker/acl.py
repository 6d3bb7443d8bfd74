"""The two users that Redis needs to know, and no more than they need.

Pure: a prefix in, rules out. What the brokers and the scripts say to Redis is listed here
once more, on purpose: a command that is new has to be allowed by somebody.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CONNECTING = ("ping", "select", "info")
_PUBLISHING = (
    "evalsha",
    "script|load",
    "publish",
    # What the scripts call: Redis asks about each.
    "del",
    "exists",
    "expire",
    "hdel",
    "hget",
    "hincrby",
    "hmget",
    "hset",
    "rename",
    "set",
    "time",
    "xadd",
    "xlen",
    "xrange",
    "xrevrange",
    "zadd",
    "zcard",
    # Who is on a channel.
    "hgetall",
    "hkeys",
    "hlen",
)
_SERVING = ("subscribe", "unsubscribe", "get", "getdel", "sadd", "smembers", "srem")
_WORKING = (
    "xack",
    "xclaim",
    "xdel",
    "xpending",
    "zrange",
    "zrangebyscore",
    "zrem",
)
_special = re.compile(r"([\\*?\[\]])")


@dataclass(frozen=True, slots=True)
class AclUser:
    """A user of Redis.

    Attributes:
        role: ``"serve"`` or ``"publish"``.
        purpose: Which processes log in as this one.
        rules: As ``ACL SETUSER`` takes them, without a password; a string of words.
    """

    role: str
    purpose: str
    rules: str


def users(prefix: str) -> tuple[AclUser, AclUser]:
    """Who serves sockets, and who only publishes.

    Args:
        prefix: First part of every name in Redis; neither of them reaches others.
    """
    start = _special.sub(r"\\\1", prefix)
    serve = _rules(
        (f"{start}:*",),
        (f"{start}:*",),
        (*_CONNECTING, *_PUBLISHING, *_SERVING, *_WORKING),
    )
    # Tickets may be put there, not taken; whether a process is there is read, to tell who
    # is on a channel (Redis 6.2 has no rule for reading alone).
    publish = _rules(
        (f"{start}:{{*", f"{start}:once:*", f"{start}:node:*"),
        (f"{start}:{{*",),
        (*_CONNECTING, *_PUBLISHING),
    )
    return (
        AclUser(
            "serve",
            "who serves sockets or works: gunicorn, pubsub_serve, pubsub_worker",
            serve,
        ),
        AclUser(
            "publish",
            "processes that only publish: task queues, commands, pubsub_relay, other sites",
            publish,
        ),
    )


def _rules(
    keys: tuple[str, ...], channels: tuple[str, ...], commands: tuple[str, ...]
) -> str:
    words = ["resetkeys", "resetchannels", *(f"~{key}" for key in keys)]
    words += [*(f"&{channel}" for channel in channels), "-@all"]
    words += [f"+{command}" for command in sorted(commands)]
    return " ".join(words)
