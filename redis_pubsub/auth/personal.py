"""What somebody hears without asking: his own channel, his session's, his groups',
everybody's. A site extends it by a class of its own, ``live["personal_channels"]``."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib.auth import get_user_model
from django.db import router
from django.utils.module_loading import import_string

from ..addresses import (
    KINDS,
    Address,
    address_of,
    broadcast_channel,
    group_channel,
    personal_channel,
    session_channel,
)
from ..conf import get_config
from ..db import Orm
from .lookups import Lookups

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser, AnonymousUser

_GROUPS_LOOKED_FOR_S = 10.0
_WAITING = 10_000
"""Who may wait to be told whether there are any groups."""


class PersonalChannels:
    """Which channels belong to whoever connects.

    Subclass it, and name the subclass in ``REDIS_PUBSUB["live"]["personal_channels"]``, to
    let connections hear more, or less::

        class TeamChannels(PersonalChannels):
            def channels(self, user, session_key):
                channels = super().channels(user, session_key)
                return [*channels, f"team:{user.team_id}"] if user else channels

    A ``channels`` that is overridden may query, and may be ``async def``.
    """

    def channels(
        self, user: AbstractBaseUser | None, session_key: str
    ) -> Iterable[str] | Any:
        """Without those of groups.

        Args:
            user: ``None`` for nobody.
            session_key: Of Django's session; ``""`` where none came along.
        """
        channels = [session_channel(session_key)] if session_key else []
        if user is not None:
            channels.append(personal_channel(str(user.pk)))
        return [*channels, broadcast_channel()]

    def groups(self, user: AbstractBaseUser) -> Iterable[str]:
        """Names of the groups whose channels a user hears. Queries."""
        groups = getattr(user, "groups", None)
        if groups is None:
            return ()
        names: Iterable[str] = groups.using(
            router.db_for_write(groups.model, instance=user)
        ).values_list("name", flat=True)
        return names


class NoPersonalChannels(PersonalChannels):
    """Nobody hears anything without asking: for sites whose clients subscribe to all that
    they want. Each connection is spared two channels or more. Who asks for what is for him
    still gets it."""

    def channels(self, user: AbstractBaseUser | None, session_key: str) -> Iterable[str]:
        return ()


class Personal:
    """Answers for one process.

    Args:
        path: Of the class; ``""`` for `PersonalChannels`.
        orm: Runs queries.
    """

    def __init__(self, path: str, orm: Orm) -> None:
        kind = _class(path)
        self._channels: PersonalChannels = kind()
        self._is_none = kind.channels is NoPersonalChannels.channels
        self._is_own = kind.channels is not PersonalChannels.channels
        self._names_groups = kind.groups is not PersonalChannels.groups
        self._orm = orm
        self._has_groups = False
        self._none_since = float("-inf")
        self._look = Lookups(
            orm,
            lambda _: _has_groups(),
            lambda keys: dict.fromkeys(keys, _has_groups()),
            waiting=_WAITING,
        )

    async def channels(
        self, user: AbstractBaseUser | None, session_key: str = ""
    ) -> list[str]:
        """What a connection hears without asking, each once.

        A site without groups is asked for them once in a while, not for each connection.

        Raises:
            Exception: The database's, or the site's class's.
        """
        if self._is_none:
            return []
        if not self._is_own:
            found = self._channels.channels(user, session_key)
        elif inspect.iscoroutinefunction(self._channels.channels):
            found = await self._channels.channels(user, session_key)
        else:
            found = await self._orm.run(self._listed, user, session_key)
        groups = [group_channel(name) for name in await self.groups(user)]
        return list(dict.fromkeys([*found, *groups]))

    async def groups(self, user: AbstractBaseUser | None) -> list[str]:
        """The names of a user's groups."""
        if user is None or not await self._are_there_groups():
            return []
        return await self._orm.run(lambda: list(self._channels.groups(user)))

    async def look_anew(self) -> None:
        """Find groups that were made a moment ago, where there were none before."""
        self._none_since = float("-inf")
        await self._are_there_groups()

    async def _are_there_groups(self) -> bool:
        if self._has_groups or not apps.is_installed("django.contrib.auth"):
            return self._has_groups
        if time.monotonic() - self._none_since < _GROUPS_LOOKED_FOR_S:
            return False
        # Remembered once it is known, not before: who comes meanwhile waits for the answer
        # as well, and after an error the next one asks.
        if await self._look.get(""):
            self._has_groups = True
        else:
            self._none_since = time.monotonic()
        return self._has_groups

    async def groups_by_user(self, pks: Sequence[str]) -> dict[str, set[str]] | None:
        """The names of many users' groups, by primary key as text; one query.

        Returns:
            ``None`` where that is the site's own class's to say, or there are no groups.
        """
        if not self._has_groups or self._names_groups:
            return None
        return await self._orm.run(_groups_by_user, pks)

    def _listed(self, user: AbstractBaseUser | None, session_key: str) -> list[str]:
        return list(self._channels.channels(user, session_key))


def personal_channels(
    user: AbstractBaseUser | AnonymousUser | None,
    session_key: str | None = "",
    *,
    topic: str = "",
) -> list[str]:
    """What is for somebody, from the nearest to the widest: his session, he, his groups,
    everybody; before them what the site's own class adds. Queries: for threads.

    Args:
        user: ``request.user``; ``None`` for nobody.
        session_key: ``request.session.session_key``.
        topic: What it is about; a channel with a topic is heard by who subscribes to it.
    """
    known: Any = user if user is not None and user.is_authenticated else None
    hearer = _class(get_config().live_options.personal_channels)()
    find = hearer.channels
    if inspect.iscoroutinefunction(find):
        find = async_to_sync(find)
    found = [*find(known, session_key or "")]
    if known is not None and apps.is_installed("django.contrib.auth"):
        found += map(group_channel, hearer.groups(known))
    addresses = sorted(filter(None, map(address_of, found)), key=_width)
    names = [each._replace(topic=topic).channel for each in addresses]
    others = [name for name in found if address_of(name) is None]
    return list(dict.fromkeys(names if topic else [*others, *names]))


def _width(address: Address) -> int:
    return KINDS.index(address.kind)


def _class(path: str) -> type[PersonalChannels]:
    return import_string(path) if path else PersonalChannels


def _has_groups() -> bool:
    from django.contrib.auth.models import Group

    return Group.objects.exists()


def _groups_by_user(pks: Sequence[str]) -> dict[str, set[str]]:
    model = get_user_model()
    # Not a replica: whoever looks was told after the commit, and it may not know yet.
    users = model._default_manager.using(router.db_for_write(model))
    users = users.filter(pk__in=pks, groups__isnull=False)
    found: dict[str, set[str]] = {}
    for pk, name in users.values_list("pk", "groups__name"):
        found.setdefault(str(pk), set()).add(name)
    return found
