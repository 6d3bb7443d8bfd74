"""Fan-out: many listeners in one process, one Redis subscription a channel.

Knows a broker and messages; knows no Django, no sockets, no JSON.
Order: a listener gets one channel's messages as the broker delivered them.
Contract: docs/reference/broker.rst.
"""

from __future__ import annotations

from .admission import Admission
from .hub import Hub
from .listeners import FrameListener, Listener, MessageListener
from .log import Past

__all__ = ["Admission", "FrameListener", "Hub", "Listener", "MessageListener", "Past"]
