"""The parts of the package, one by one: endpoints, receipts, queues, the broker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from .channels import ChannelOptions, ChannelRules


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
    channel_options: Callable[[str], ChannelOptions] = field(
        default=ChannelRules({}).beside(ChannelOptions())
    )
    connect_timeout_s: float = 2.0
    command_timeout_s: float = 2.0
    subscribe_timeout_s: float = 5.0
    probe_s: float = 2.0
    meta_ttl_s: int = 30 * 24 * 3600
    workers: WorkerOptions = WorkerOptions()
