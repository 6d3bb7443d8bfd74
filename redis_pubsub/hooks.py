"""What models and tickets need of the floors above them; filled by ``apps.ready()``.

A model may publish and give a reader, yet must not import who does it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any


def _not_ready(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError(
        "nothing can be published before django.setup() has run with "
        '"redis_pubsub" in INSTALLED_APPS'
    )


class Hooks:
    """The functions that lower floors call.

    Attributes:
        publish_instance: ``(channel_name, instance, *, event, fields, using)``.
        publish_saved: ``(rows, event, using)``; logs what goes wrong, never raises.
        announce_subscribers: ``(user_pks, *, using)``: their subscriptions changed.
        make_reader: ``(subscription, manager)`` to a ``ChannelReader``.
        presence: ``(channel_name, *, by)`` to a list of who is there.
        apresence: The same for coroutines.
        history: ``(channel_name, *, limit, since, reverse, user)`` to messages.
        ahistory: The same for coroutines.
        last: ``(channel_name)`` to a message or ``None``.
        alast: The same for coroutines.
        put_once: ``(name, value, ttl_s)``: into Redis, until somebody takes it.
        aput_once: The same for coroutines.
    """

    publish_instance: Callable[..., None] = staticmethod(_not_ready)
    publish_saved: Callable[..., None] = staticmethod(_not_ready)
    announce_subscribers: Callable[..., None] = staticmethod(_not_ready)
    make_reader: Callable[..., Any] = staticmethod(_not_ready)
    presence: Callable[..., Any] = staticmethod(_not_ready)
    apresence: Callable[..., Any] = staticmethod(_not_ready)
    history: Callable[..., Any] = staticmethod(_not_ready)
    ahistory: Callable[..., Any] = staticmethod(_not_ready)
    last: Callable[..., Any] = staticmethod(_not_ready)
    alast: Callable[..., Any] = staticmethod(_not_ready)
    put_once: Callable[[str, bytes, float], None] = staticmethod(_not_ready)
    aput_once: Callable[[str, bytes, float], Awaitable[None]] = staticmethod(_not_ready)


hooks = Hooks()

_is_muted: ContextVar[bool] = ContextVar("redis_pubsub_muted", default=False)


@contextmanager
def muted() -> Iterator[None]:
    """Saves and deletes inside publish nothing."""
    token = _is_muted.set(True)
    try:
        yield
    finally:
        _is_muted.reset(token)


def is_muted() -> bool:
    return _is_muted.get()
