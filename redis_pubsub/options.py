"""What a channel, and a process, may do: values with defaults.

Settings are read in ``conf`` and come down from there as these values.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

CHANNEL_NAME_MAX = 255
"""Characters in a channel's name: the width of ``Channel.name``."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What holds for one channel.

    Attributes:
        history_size: Messages kept in Redis; 0 keeps none.
        history_ttl_s: Seconds until an untouched history is forgotten.
        positioned: Whether connections watch the channel's position.
        force_recovery: Whether the live endpoint recovers without being asked.
        subscribe: Who may listen without a ``Subscription`` row: ``""`` nobody,
            ``"authenticated"``, ``"anyone"``.
        publish: Who may publish from a client, the same three.
        presence: Whether connected clients are listed.
        presence_by: ``"client"`` or ``"user"``.
        join_leave: Whether arrivals and departures are announced.
        leave_delay_s: Seconds a departure waits for a return.
        slow: What a connection that cannot keep up gets: ``"disconnect"``,
            ``"latest"`` or ``"drop"``.
        audience: Whether messages are rendered once per audience.
        models: Labels of the models the channel may carry; empty means all
            publishable ones.
    """

    history_size: int = 0
    history_ttl_s: int = 600
    positioned: bool = False
    force_recovery: bool = False
    subscribe: str = ""
    publish: str = ""
    presence: bool = False
    presence_by: str = "client"
    join_leave: bool = False
    leave_delay_s: int = 0
    slow: str = "disconnect"
    audience: bool = False
    models: tuple[str, ...] = ()

    @property
    def has_history(self) -> bool:
        return self.history_size > 0


CHANNEL_OPTION_NAMES = frozenset(f.name for f in fields(ChannelOptions))


class ChannelRules:
    """Patterns of channel names and the options they give.

    A pattern is an exact name or a shell pattern (``"news:*"``). An exact name
    wins over patterns; among patterns the longest that matches wins.

    Args:
        rules: Pattern to option values.
        default: Options of a channel that no pattern names.
    """

    def __init__(
        self,
        rules: Mapping[str, Mapping[str, Any]],
        default: ChannelOptions | None = None,
    ) -> None:
        self._default = default or ChannelOptions()
        self._exact: dict[str, ChannelOptions] = {}
        patterns: list[tuple[str, ChannelOptions]] = []
        for pattern, values in rules.items():
            options = ChannelOptions(**values)
            self._exact[pattern] = options
            if any(sign in pattern for sign in "*?["):
                patterns.append((pattern, options))
        patterns.sort(key=lambda rule: len(rule[0]), reverse=True)
        self._patterns: list[tuple[Callable[[str], Any], ChannelOptions]] = [
            (re.compile(fnmatch.translate(pattern)).match, options)
            for pattern, options in patterns
        ]

    def find(self, channel: str) -> ChannelOptions | None:
        """The options a rule gives this channel, or ``None`` where no rule names it."""
        exact = self._exact.get(channel)
        if exact is not None:
            return exact
        for matches, options in self._patterns:
            if matches(channel):
                return options
        return None

    def __call__(self, channel: str) -> ChannelOptions:
        """The options of a channel, the default where no rule names it."""
        return self.find(channel) or self._default


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds with which a serving process protects itself.

    Attributes:
        message_bytes: Largest payload, encoded.
        command_bytes: Largest message a client may send.
        send_buffer_bytes: What one connection may leave unsent before it is slow.
        receive_messages: Messages a handler may leave unread.
        receive_bytes: Bytes a handler may leave unread.
        reader_messages: Messages that may wait for one reader's callbacks.
        db_waiting: Database calls that may wait for a thread.
        heartbeat_s: Seconds between pings to a client.
        subscribe_timeout_s: How long a listen waits for Redis.
        handler_grace_s: How long a handler may run on after its client left.
    """

    message_bytes: int = 1_048_576
    command_bytes: int = 4_194_304
    send_buffer_bytes: int = 1_048_576
    receive_messages: int = 64
    receive_bytes: int = 1_048_576
    reader_messages: int = 1_000
    db_waiting: int = 10_000
    heartbeat_s: float = 25.0
    subscribe_timeout_s: float = 5.0
    handler_grace_s: float = 10.0


LIMIT_NAMES = frozenset(f.name for f in fields(Limits))


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to reach a broker.

    Attributes:
        url: ``redis://``, ``rediss://``, ``unix://`` or ``memory://``.
        prefix: First part of every key and channel in Redis.
        channel_options: Name to options.
        connect_timeout_s: How long one attempt to connect may take.
        command_timeout_s: How long one command may take.
        subscribe_timeout_s: How long a listen may wait, reconnects included.
        meta_ttl_s: How long a channel's epoch and offset outlive its last use.
    """

    url: str = "redis://localhost:6379/0"
    prefix: str = "pubsub"
    channel_options: Callable[[str], ChannelOptions] = field(default=ChannelRules({}))
    connect_timeout_s: float = 2.0
    command_timeout_s: float = 2.0
    subscribe_timeout_s: float = 5.0
    meta_ttl_s: int = 30 * 24 * 3600
