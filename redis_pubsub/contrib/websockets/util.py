"""Version 1.0's ``redis_pubsub.contrib.websockets.util``."""

from __future__ import annotations

from aiohttp import web
from django.utils.module_loading import import_string

from ...conf import get_config
from ...deprecated import moved
from ...web.handshake import INVALID_TOKEN, NO_TOKEN

__getattr__ = moved(
    __name__,
    {
        "websocket": "redis_pubsub.contrib.websockets:websocket",
        "websocket_pubsub": "redis_pubsub.contrib.websockets:websocket_pubsub",
        "_clean_route": "redis_pubsub.contrib.websockets.routes:clean_route",
        "authentication_method": "!read REDIS_PUBSUB['tokenauth_method']",
    },
)


def handle_auth(token: str | None) -> object:
    """The active user of a token, by the first synchronous method; blocking, as in 1.0.

    Raises:
        web.HTTPForbidden: No token, or one that nobody knows.
    """
    if token is None:
        raise web.HTTPForbidden(text=NO_TOKEN)
    user = import_string(get_config().tokenauth_method[0])(token)
    if user is None or not user.is_active:
        raise web.HTTPForbidden(text=INVALID_TOKEN)
    return user
