"""What a channel, and a process, may do: values with defaults.

Settings are read in ``conf`` and come down from there as these values.
"""

from __future__ import annotations

from .channels import (
    CHANNEL_NAME_MAX,
    CHANNEL_OPTION_NAMES,
    ChannelOptions,
    ChannelRules,
)
from .limits import LIMIT_NAMES, Limits
from .parts import (
    BrokerOptions,
    HealthOptions,
    LiveOptions,
    ReceiptOptions,
    WorkerOptions,
)

__all__ = [
    "CHANNEL_NAME_MAX",
    "CHANNEL_OPTION_NAMES",
    "LIMIT_NAMES",
    "BrokerOptions",
    "ChannelOptions",
    "ChannelRules",
    "HealthOptions",
    "Limits",
    "LiveOptions",
    "ReceiptOptions",
    "WorkerOptions",
]
