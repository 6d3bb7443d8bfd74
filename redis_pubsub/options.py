"""What a channel, and a process, may do: values with defaults.

Settings are read in ``conf`` and come down from there as these values.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import Any

CHANNEL_NAME_MAX = 255
"""Characters in a channel's name: the width of ``Channel.name``."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What holds for one channel.

    Attributes:
        history_size: Messages kept in Redis; 0 keeps none.
        history_ttl_s: Seconds until an untouched history is forgotten.
        replay: Messages of the history that somebody new to the channel gets at once, the
            last ones.
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
    replay: int = 0
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

    def __hash__(self) -> int:
        # There are a handful of them, and they are keys of what is asked most often.
        return hash((self.history_size, self.history_ttl_s, self.subscribe))

    @property
    def has_history(self) -> bool:
        return self.history_size > 0

    @property
    def clears_history(self) -> bool:
        """Whether a message with these options ends what the channel keeps."""
        return self.history_size == 0 and self.history_ttl_s == 0


_CHANNELS_REMEMBERED = 4_096
CHANNEL_OPTION_NAMES = frozenset(f.name for f in fields(ChannelOptions))


class ChannelRules:
    """Patterns of channel names and the options they change.

    A pattern is an exact name or a shell pattern (``"news:*"``). An exact name wins over
    patterns; among patterns the longest that matches wins. What a rule does not mention
    stays as the default has it.

    Args:
        rules: Pattern to option values.
    """

    def __init__(self, rules: Mapping[str, Mapping[str, Any]]) -> None:
        self._rules = rules
        patterns = [pattern for pattern in rules if any(sign in pattern for sign in "*?[")]
        patterns.sort(key=len, reverse=True)
        self._patterns = [
            (re.compile(fnmatch.translate(pattern)).match, pattern) for pattern in patterns
        ]
        self._made: dict[tuple[str, ChannelOptions], ChannelOptions] = {}
        # Asked several times for each channel of each connection that comes.
        self._known: Callable[[str], str] = lru_cache(_CHANNELS_REMEMBERED)(self._find)
        for pattern in rules:
            self._options(pattern, ChannelOptions())

    def pattern_of(self, channel: str) -> str:
        """The rule that speaks of a channel; ``""`` if none does."""
        return channel if channel in self._rules else self._known(channel)

    def _find(self, channel: str) -> str:
        return next(
            (pattern for matches, pattern in self._patterns if matches(channel)), ""
        )

    def __call__(
        self, channel: str, default: ChannelOptions = ChannelOptions()
    ) -> ChannelOptions:
        """The options of a channel."""
        pattern = self.pattern_of(channel)
        return self._options(pattern, default) if pattern else default

    def _options(self, pattern: str, default: ChannelOptions) -> ChannelOptions:
        made = self._made.get((pattern, default))
        if made is None:
            made = replace(default, **self._rules[pattern])
            self._made[pattern, default] = made
        return made


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds with which a serving process protects itself.

    Attributes:
        connections: Sockets and streams of one process.
        connects_per_s: How many of them may come each second in the long run.
        connects_burst: How many may come at once.
        user_connections: Of one user in one process.
        address_connections: Of one client address in one process.
        address_connects_per_s: How many of one address may come each second.
        address_connects_burst: How many of one address may come at once.
        first_request_s: How long a new connection may take for its first request's head.
        message_bytes: Largest payload, encoded.
        command_bytes: Largest message a client may send to a handler.
        live_command_bytes: Largest frame a client may send to the live endpoint.
        messages_per_s: Messages a client may send to a handler each second.
        messages_burst: How many at once.
        bytes_per_s: Bytes a client may send to a handler each second.
        bytes_burst: How many at once; two of the largest messages at least.
        live_commands_per_s: Commands a live client may send each second.
        live_commands_burst: How many at once.
        live_bytes_per_s: Bytes a live client may send each second.
        live_bytes_burst: How many at once; two of the largest frames at least.
        control_frames_per_s: Pings and pongs a client may send each second.
        control_frames_burst: How many at once.
        live_channels: Channels one live connection may hear.
        live_calls: Procedure calls of one live connection that may run at once.
        live_connect_s: How long a live connection may go without its first command.
        live_expiry_grace_s: How long a client may take for a new token.
        send_buffer_bytes: What one connection may leave unsent before it is slow.
        write_deadline_s: How long a client may take nothing of what is unsent.
        receive_messages: Messages a handler may leave unread.
        receive_bytes: Bytes a handler may leave unread.
        reader_messages: Messages that may wait for one reader's callbacks.
        db_waiting: Database calls that may wait for a thread.
        heartbeat_s: Seconds between pings to a client.
        subscribe_timeout_s: How long a listen waits for Redis.
        probe_s: Silence after which Redis is probed, and how long the echo may take.
        loop_block_s: How long the event loop may stand still before that is logged.
        recovery_messages: Missed messages a client may get back at once.
        catch_up_messages: Undelivered publications a user is handed at once.
        presence_members: Members of a channel that a client may be told at once.
        handler_grace_s: How long a handler may run on after its client left.
        ticket_s: How long a one-use ticket is good.
        auth_failures: Bad tokens that one address may bring in a minute.
        recheck_s: How often it is looked whether those who are connected still may be.
    """

    connections: int = 20_000
    connects_per_s: float = 1_000.0
    connects_burst: int = 5_000
    user_connections: int = 100
    address_connections: int = 1_000
    address_connects_per_s: float = 20.0
    address_connects_burst: int = 1_000
    first_request_s: float = 10.0
    message_bytes: int = 1_048_576
    command_bytes: int = 4_194_304
    live_command_bytes: int = 65_536
    messages_per_s: float = 500.0
    messages_burst: int = 5_000
    bytes_per_s: float = 4_194_304.0
    bytes_burst: int = 16_777_216
    live_commands_per_s: float = 100.0
    live_commands_burst: int = 1_000
    live_bytes_per_s: float = 262_144.0
    live_bytes_burst: int = 4_194_304
    control_frames_per_s: float = 10.0
    control_frames_burst: int = 100
    live_channels: int = 128
    live_calls: int = 16
    live_connect_s: float = 10.0
    live_expiry_grace_s: float = 25.0
    send_buffer_bytes: int = 1_048_576
    write_deadline_s: float = 10.0
    receive_messages: int = 64
    receive_bytes: int = 1_048_576
    reader_messages: int = 1_000
    db_waiting: int = 10_000
    heartbeat_s: float = 25.0
    subscribe_timeout_s: float = 5.0
    probe_s: float = 2.0
    loop_block_s: float = 1.0
    recovery_messages: int = 1_000
    catch_up_messages: int = 1_000
    presence_members: int = 10_000
    handler_grace_s: float = 10.0
    ticket_s: float = 30.0
    auth_failures: int = 30
    recheck_s: float = 60.0


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """The live endpoint.

    Attributes:
        enabled: Whether it is served.
        path: Where: ``<path>/websocket``, ``<path>/sse``, ``<path>/http_stream``, and
            ``emulation`` beside it.
        events_path: Where plain server-sent events are; ``""`` for nowhere.
        anonymous: Whether a client without credentials may connect.
        personal_channels: Path of a class that says what a connection hears without
            asking, see `redis_pubsub.auth.PersonalChannels`; ``""`` for that one.
        token_key: Key of this site's own tokens, see `redis_pubsub.auth.tokens`; or
            several: the first signs, and each verifies.
        trust_tokens: Whether such a token is enough to connect, without a look at the
            user it names.
    """

    enabled: bool = True
    path: str = "/connection"
    events_path: str = "/events"
    anonymous: bool = False
    personal_channels: str = ""
    token_key: str | tuple[str, ...] = ""
    trust_tokens: bool = False

    @property
    def token_keys(self) -> tuple[str, ...]:
        """``token_key`` as it is asked: the one that signs first, none that is empty."""
        keys = (self.token_key,) if isinstance(self.token_key, str) else self.token_key
        return tuple(key for key in keys if key)

    @property
    def base_path(self) -> str:
        """``path`` with one slash before and none behind."""
        return "/" + self.path.strip("/")

    @property
    def full_events_path(self) -> str:
        """``events_path`` with one slash before."""
        return "/" + self.events_path.lstrip("/")

    @property
    def emulation_path(self) -> str:
        """Where streams' posts go: beside the endpoint, where client libraries look."""
        return self.base_path.rpartition("/")[0] + "/emulation"


@dataclass(frozen=True, slots=True)
class ReceiptOptions:
    """Receipts of models whose delivery is tracked.

    Attributes:
        keep_days: For how long ``pubsub_prune`` keeps them unless it is told; 0 for ever.
    """

    keep_days: int = 0


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Queues of jobs and who works on them.

    Attributes:
        queue_jobs: Jobs a queue may have, those included that run or are due later.
        dead_letters: Failed jobs a queue keeps; beyond, the oldest go.
        takeover_s: Silence after which a worker's jobs are given to another.
        crashes: How many workers may die of a job before it is a dead letter.
        stop_s: How long a stopping worker lets jobs finish.
        result_ttl_s: How long the result of a ``django.tasks`` task is kept.
    """

    queue_jobs: int = 100_000
    dead_letters: int = 10_000
    takeover_s: float = 15.0
    crashes: int = 3
    stop_s: float = 10.0
    result_ttl_s: int = 86_400


@dataclass(frozen=True, slots=True)
class HealthOptions:
    """What monitoring may ask; an empty path switches one off.

    Attributes:
        healthz: Path that answers as long as the event loop runs.
        readyz: Path that says whether messages arrive and the database answers.
        metrics: Path of the counters and gauges, for Prometheus.
        metrics_token: What a scraper sends as ``Authorization: Bearer …``; without one
            only this machine may ask.
    """

    healthz: str = "/healthz"
    readyz: str = "/readyz"
    metrics: str = "/metrics"
    metrics_token: str = ""


LIMIT_NAMES = frozenset(f.name for f in fields(Limits))


@dataclass(frozen=True, slots=True)
class BrokerOptions:
    """How to reach a broker.

    Attributes:
        url: ``redis://``, ``rediss://``, their ``redis+sentinel://`` kin, ``unix://`` or
            ``memory://``.
        prefix: First part of every key and channel in Redis.
        envelope_key: Signs messages; ``""`` for unsigned ones.
        channel_options: Name to options.
        connect_timeout_s: How long one attempt to connect may take.
        command_timeout_s: How long one command may take.
        subscribe_timeout_s: How long a listen may wait, reconnects included.
        probe_s: Silence after which Redis is probed, and how long the echo may take.
        meta_ttl_s: How long a channel's epoch and offset outlive its last use.
        workers: Bounds of queues.
    """

    url: str = "redis://localhost:6379/0"
    prefix: str = "pubsub"
    envelope_key: str = ""
    channel_options: Callable[[str], ChannelOptions] = field(default=ChannelRules({}))
    connect_timeout_s: float = 2.0
    command_timeout_s: float = 2.0
    subscribe_timeout_s: float = 5.0
    probe_s: float = 2.0
    meta_ttl_s: int = 30 * 24 * 3600
    workers: WorkerOptions = WorkerOptions()
