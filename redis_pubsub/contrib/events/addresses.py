"""Where emitted events travel: reserved channels, per path, parameters, user, connection.

A process hears only those that its own sockets need.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from ...messages import reserved_channel

_LONGEST = 200
"""Characters of an address that are kept as they are: parts of it are the client's."""


def everywhere(path: str) -> str:
    """The channel of all sockets of a path."""
    return _channel(path, "*", "")


def of_parameters(path: str, params: Mapping[str, str]) -> str:
    """The channel of those with these parameters."""
    return _channel(path, "?", urlencode(sorted(params.items())))


def of_user(path: str, user_id: str) -> str:
    """The channel of those of one user."""
    return _channel(path, "@", user_id)


def of_client(path: str, client: str) -> str:
    """The channel of one connection."""
    return _channel(path, "#", client)


def _channel(path: str, kind: str, whose: str) -> str:
    # No path and no parameter has a zero byte in it: two addresses never share a name.
    name = f"event:{kind}{path}\0{whose}"
    if len(name) > _LONGEST:
        name = f"event:{kind}{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()}"
    return reserved_channel(name)


def channel_for(
    path: str,
    *,
    params: Mapping[str, Any] | None,
    user: Any,
    client: str,
    is_for_all: bool,
) -> str:
    """The channel of those whom an event is for; of the whole path if nobody is named.

    Raises:
        TypeError: Several addressees.
        ValueError: The user is nobody.
    """
    if (params is not None) + (user is not None) + bool(client) + is_for_all > 1:
        raise TypeError("emit() takes one of params, user, client and everywhere")
    if user is not None:
        pk = getattr(user, "pk", user)
        if pk is None or pk == "":
            raise ValueError(f"{user!r} is nobody: only who is logged in is a user")
        return of_user(path, str(pk))
    if client:
        return of_client(path, client)
    if params is None or "{" not in path:
        return everywhere(path)
    return of_parameters(path, {name: str(value) for name, value in params.items()})


def channels_of(
    path: str, *, client: str, params: Mapping[str, str], user_id: str
) -> list[str]:
    """The channels that speak to one connection; ``user_id`` is ``""`` for nobody."""
    channels = [everywhere(path), of_client(path, client)]
    if params:
        channels.append(of_parameters(path, params))
    if user_id:
        channels.append(of_user(path, user_id))
    return channels
