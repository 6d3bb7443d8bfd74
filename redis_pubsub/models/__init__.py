"""The tables, and the base class of models that publish themselves."""

from __future__ import annotations

from .channels import Channel, Subscription
from .outbox import OutboxMessage
from .publishable import PublishableModel
from .receipts import ReceiptHorizon, ReceivedPublication

__all__ = [
    "Channel",
    "OutboxMessage",
    "PublishableModel",
    "ReceiptHorizon",
    "ReceivedPublication",
    "Subscription",
]
