"""The tables, and the base class of models that publish themselves."""

from __future__ import annotations

from .channels import Channel, Subscription
from .jobs import DeadLetter
from .outbox import OutboxMessage
from .publishable import PublishableModel
from .receipts import ReceiptHorizon, ReceivedPublication

__all__ = [
    "Channel",
    "DeadLetter",
    "OutboxMessage",
    "PublishableModel",
    "ReceiptHorizon",
    "ReceivedPublication",
    "Subscription",
]
