"""May this user do that on a channel? Default: no.

A user may listen to a channel with an active `Subscription`, where a channel option says
so, or where the site's ``authorize_method`` does. Its answer wins: ``True`` allows,
``False`` refuses, ``None`` leaves it to the other rules.
"""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, Any

from django.utils.module_loading import import_string

from ..conf import Config
from ..db import Orm
from ..models import Subscription

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.auth")

SUBSCRIBE = "subscribe"
ANYONE = "anyone"
AUTHENTICATED = "authenticated"


class Authorizer:
    """Answers for one process.

    Args:
        config: Channel options and ``authorize_method``.
        orm: Runs queries, and the method where it is a plain function.
    """

    def __init__(self, config: Config, orm: Orm) -> None:
        self._config = config
        self._orm = orm
        self._method: Any = None

    async def may_subscribe(
        self,
        user: AbstractBaseUser | None,
        channel: str,
        *,
        token: str = "",
        connection: str = "",
    ) -> bool:
        """Whether a client may listen to a channel.

        Args:
            user: Who asks; ``None`` if nobody is logged in.
            channel: The channel's name, as the client wrote it.
            token: What the client sent along for this channel.
            connection: Id of the connection that asks.
        """
        answer = await self._ask(user, channel, SUBSCRIBE, token, connection)
        if answer is not None:
            return answer
        allowed = self._config.channel_options(channel).subscribe
        if allowed == ANYONE or (allowed == AUTHENTICATED and user is not None):
            return True
        if user is None:
            return False
        return await self._orm.run(_has_subscription, user, channel)

    async def _ask(
        self,
        user: AbstractBaseUser | None,
        channel: str,
        action: str,
        token: str,
        connection: str,
    ) -> bool | None:
        path = self._config.authorize_method
        if not path:
            return None
        if self._method is None:
            self._method = import_string(path)
        arguments: dict[str, Any] = {
            "user": user,
            "channel": channel,
            "action": action,
            "token": token,
            "connection": connection,
        }
        try:
            if inspect.iscoroutinefunction(self._method):
                answer = await self._method(**arguments)
            else:
                answer = await self._orm.run(self._method, **arguments)
        except Exception:
            logger.exception("authorize_method %s failed; refused", path)
            return False
        return None if answer is None else bool(answer)


def _has_subscription(user: AbstractBaseUser, channel: str) -> bool:
    mine = Subscription.objects.filter(subscriber=user, channel__name=channel, active=True)
    return bool(mine.exists())
