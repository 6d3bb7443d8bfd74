"""Hearing a channel: readers with callbacks, and the managers that own them."""

from __future__ import annotations

from ..hooks import hooks
from .manager import SubscriptionManager
from .reader import ChannelReader, FrameReader

__all__ = ["ChannelReader", "FrameReader", "SubscriptionManager", "connect"]


def connect() -> None:
    """Give the models what they need of this floor; called by ``apps.ready()``."""
    hooks.make_reader = ChannelReader
