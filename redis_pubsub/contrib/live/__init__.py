"""The live endpoint: clients subscribe, recover, call and publish, without server code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...lazy import lazy

if TYPE_CHECKING:
    from .procedures import RPCError, on_message, rpc

__all__ = ["RPCError", "on_message", "rpc"]

__getattr__ = lazy(__name__, dict.fromkeys(__all__, "procedures"))
