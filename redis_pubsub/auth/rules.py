"""What a channel's name and options say of who may, without a row and without the site.

Names say whom a channel is for (`redis_pubsub.addresses`), options whether anyone may, or
only who is logged in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..addresses import (
    BROADCAST,
    GROUP,
    SESSION,
    USER,
    address_kind,
    address_of,
    session_digest,
)
from ..conf import Config
from .personal import Personal

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

ANYONE = "anyone"
AUTHENTICATED = "authenticated"


class Rules:
    """The rules of one process.

    Args:
        config: Channel options.
        personal: Says in which groups a user is.
    """

    def __init__(self, config: Config, personal: Personal) -> None:
        self._config = config
        self._personal = personal

    async def own(
        self, user: AbstractBaseUser | None, session_key: str, channels: Sequence[str]
    ) -> set[str]:
        """Of these channels those for whoever asks; a query if one is a group's."""
        addresses = {
            channel: address
            for channel in channels
            if (address := address_of(channel)) is not None
        }
        if not addresses:
            return set()
        whose = {(BROADCAST, "")}
        if user is not None:
            whose.add((USER, str(user.pk)))
        if session_key:
            whose.add((SESSION, session_digest(session_key)))
        if any(address.kind == GROUP for address in addresses.values()):
            whose.update((GROUP, name) for name in await self._personal.groups(user))
        return {
            channel
            for channel, address in addresses.items()
            if (address.kind, address.whose) in whose
        }

    def may_listen(
        self, user: AbstractBaseUser | None, channel: str, own: set[str]
    ) -> bool | None:
        """What a channel's name and options say; ``None`` if they say nothing.

        Args:
            user: Who asks; ``None`` if nobody is logged in.
            channel: The channel's name.
            own: The channels that are for this user, see `own`.
        """
        if channel in own:
            return True
        if not self._is_ruled(channel):
            return None
        return _matches(self._config.channel_options(channel).subscribe, user) or None

    def may_publish(self, user: AbstractBaseUser | None, channel: str) -> bool:
        """What a channel's options say of publishing from a client."""
        return self._is_ruled(channel) and _matches(
            self._config.channel_options(channel).publish, user
        )

    def _is_ruled(self, channel: str) -> bool:
        """Whether channel options say who may: of what is for somebody only a rule does
        that is meant for those, not one for every channel."""
        kind = address_kind(channel)
        if not kind:
            return True
        return self._config.channel_rules.pattern_of(channel).startswith(kind)


def _matches(option: str, user: AbstractBaseUser | None) -> bool:
    return option == ANYONE or (option == AUTHENTICATED and user is not None)
