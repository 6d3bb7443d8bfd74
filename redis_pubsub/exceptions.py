"""Every error this package raises on purpose.

One root, so that a caller can catch "something about publishing" in one line.
A caller's own mistake stays a ``TypeError`` or ``ValueError`` as well, and says
what was wrong and what the limit is.
"""

from __future__ import annotations


class PubSubError(Exception):
    """Root of every error this package raises on purpose."""


class BrokerUnavailable(PubSubError):
    """Redis did not answer in time, or refused.

    Raised where a caller asked for an answer (``apublish(strict=True)``, a
    listen); a save never sees it.
    """


class InvalidChannelName(PubSubError, ValueError):
    """A channel's name is empty, too long or has control characters."""


class InvalidPayload(PubSubError, ValueError):
    """A payload is not one JSON document of a permitted size."""


class PayloadTooLarge(InvalidPayload):
    """A payload is over the limit.

    Attributes:
        size_bytes: What the encoded payload measures.
        limit_bytes: The largest allowed, ``REDIS_PUBSUB["limits"]["message_bytes"]``.
    """

    def __init__(self, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"the payload is {size_bytes} bytes as JSON, the limit is {limit_bytes}; "
            'send less, or raise REDIS_PUBSUB["limits"]["message_bytes"]'
        )
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class AudienceRequired(PubSubError, ValueError):
    """A plain value was published on a channel on which each audience sees something else.

    Attributes:
        channel: The channel's name.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"who may see a plain value on {channel!r} is not known: publish an instance, "
            'whose model says so, or pass audience="everyone" if all who listen may see it'
        )
        self.channel = channel


class MalformedMessage(PubSubError):
    """Something on a Redis channel is not a message of ours: count it and go on."""


class PositionLost(PubSubError):
    """Messages of a channel may have been missed; reload the state.

    Attributes:
        channel: The channel's name.
    """

    def __init__(self, channel: str) -> None:
        super().__init__(f"messages of {channel!r} may have been missed; reload the state")
        self.channel = channel


class ReaderExists(PubSubError):
    """A manager already has a reader of this channel."""

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"this manager already reads {channel!r}; add your function to that reader: "
            f"manager.readers[{channel!r}].callback(function)"
        )


class InactiveSubscription(PubSubError):
    """A reader of a subscription that is turned off was asked to listen."""

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"the subscription to {channel!r} is not active; channel.subscribe(user) turns "
            "it on"
        )


class NoCallback(PubSubError):
    """``listen()`` was called on a reader that nobody takes messages from."""

    def __init__(self, channel: str) -> None:
        super().__init__(
            f"the reader of {channel!r} has no callback; decorate a function with "
            "@reader.callback, or use `async for message in reader`"
        )


class ReaderTooSlow(PubSubError):
    """More messages wait for a reader's callbacks than it may keep; it was ended.

    Attributes:
        channel: The channel's name.
        limit: ``REDIS_PUBSUB["limits"]["reader_messages"]``.
    """

    def __init__(self, channel: str, limit: int) -> None:
        super().__init__(
            f"more than {limit} messages of {channel!r} wait for a reader's callbacks; "
            "make them faster, or reconnect and resume"
        )
        self.channel = channel
        self.limit = limit


class PoolBusy(PubSubError):
    """Too many database calls wait for a thread; the caller should back off."""


class HandlerConfigError(PubSubError):
    """A ``websockets.py`` or ``consumers.py`` does not import, names a handler that is not
    there, or has two of one name."""


class QueueFull(PubSubError):
    """A queue has as many jobs as it may; this one was not taken.

    Attributes:
        queue: Its name.
        limit: ``REDIS_PUBSUB["workers"]["queue_jobs"]``.
    """

    def __init__(self, queue: str, limit: int) -> None:
        super().__init__(
            f"{limit} jobs wait for {queue!r} already; start more workers "
            f'(manage.py pubsub_worker), or raise REDIS_PUBSUB["workers"]["queue_jobs"]'
        )
        self.queue = queue
        self.limit = limit


class JobAbandoned(PubSubError):
    """A job whose workers died of it, one after the other, or that nobody can read."""
