"""WebSocket handlers in aiohttp: decorators, discovery, the application."""

from __future__ import annotations

from .discovery import load_handlers
from .handlers import websocket, websocket_pubsub
from .server import setup

__all__ = ["load_handlers", "setup", "websocket", "websocket_pubsub"]
