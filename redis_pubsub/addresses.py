"""Channels that belong to somebody: to a user, a session, a group, or to everybody.

Such a name is ``<kind>:<whose>`` or ``<kind>:<whose>:<topic>``, for everybody
``broadcast`` or ``broadcast:<topic>``. In *whose* a colon is escaped, so that no two
addresses share a name. A session's key is a secret: its channel carries a digest.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from urllib.parse import unquote

USER = "user"
SESSION = "session"
GROUP = "group"
BROADCAST = "broadcast"
KINDS = (SESSION, USER, GROUP, BROADCAST)


class Address(NamedTuple):
    """Whom a channel is for.

    Attributes:
        kind: One of `KINDS`.
        whose: Primary key as text, digest of a session's key, or a group's name; empty
            for everybody.
        topic: What it is about; empty for anything.
    """

    kind: str
    whose: str = ""
    topic: str = ""

    @property
    def channel(self) -> str:
        """The channel's name."""
        parts = [self.kind]
        if self.kind != BROADCAST:
            parts.append(self.whose.replace("%", "%25").replace(":", "%3A"))
        if self.topic:
            parts.append(self.topic)
        return ":".join(parts)


def address_of(channel: str) -> Address | None:
    """Whom a channel is for; ``None`` for one that belongs to nobody."""
    kind, _, rest = channel.partition(":")
    if kind == BROADCAST:
        address = Address(kind, "", rest)
    elif kind in KINDS:
        whose, _, topic = rest.partition(":")
        address = Address(kind, unquote(whose), topic)
    else:
        return None
    # One address has one name: another spelling of it is somebody's attempt.
    is_one = address.channel == channel and (address.whose or kind == BROADCAST)
    return address if is_one else None


def address_kind(channel: str) -> str:
    """The word that a channel's name begins with, if it is one of `KINDS`; else empty."""
    kind, _, _ = channel.partition(":")
    return kind if kind in KINDS else ""


def personal_channel(user: str, topic: str = "") -> str:
    """The channel of one user, by primary key as text: only he may hear it, and each of
    his live connections does without asking."""
    return Address(USER, user, topic).channel


def session_channel(session_key: str, topic: str = "") -> str:
    """The channel of one session of Django's, logged in or not."""
    return Address(SESSION, session_digest(session_key), topic).channel


def group_channel(group: str, topic: str = "") -> str:
    """The channel of one of Django's groups, by its name."""
    return Address(GROUP, group, topic).channel


def broadcast_channel(topic: str = "") -> str:
    """The channel of everybody who is connected."""
    return Address(BROADCAST, "", topic).channel


def session_digest(session_key: str) -> str:
    """What stands for a session where its key must not be seen. Keys are random and long,
    so that a plain hash tells nothing."""
    return hashlib.sha256(b"session:" + session_key.encode()).hexdigest()[:32]
