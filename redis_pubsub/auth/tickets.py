"""One-use tickets: a page asks for one, and opens one socket with it.

Browsers cannot set headers on a socket, and what stands in a URL ends up in logs. A ticket
may stand there: it is good once, for seconds, for one user and for pages of one origin.

Redis keeps the SHA-256 of a ticket, and under it a note that ``SECRET_KEY`` has signed: who
reads Redis finds no ticket there, and who writes there cannot make one.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core import signing
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare

from ..conf import get_config
from ..db import Orm
from ..hooks import hooks
from .origin import plain_origin

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

PREFIX = "ticket_"
"""What a ticket begins with; no other kind of token does."""
_RANDOM_BYTES = 32
_SALT = "redis_pubsub.auth.tickets"
_CLOCKS_S = 60
"""What the clocks of two machines may differ by."""
_ticket = re.compile(rf"{PREFIX}[A-Za-z0-9_-]{{43}}")

Take = Callable[[str], Awaitable[bytes | None]]


def issue(user: AbstractBaseUser, *, origin: str = "") -> str:
    """A ticket with which a client connects as a user, once, within ``limits["ticket_s"]``.

    Args:
        user: Who it is for.
        origin: Of the page that will use it, as ``"https://example.com"``; the socket's
            ``Origin`` has to be the same. ``""`` for a client that is no browser, which
            sends none.

    Raises:
        BrokerUnavailable: Redis did not take it.
        ValueError: The user is not saved, or the origin is none.
        RuntimeError: Called on a running event loop; use `aissue`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        ticket, name, note = _make(user, origin)
        hooks.put_once(name, note, get_config().limits.ticket_s)
        return ticket
    raise RuntimeError("issue() would block the event loop; write `await aissue(...)` here")


async def aissue(user: AbstractBaseUser, *, origin: str = "") -> str:
    """`issue` for coroutines."""
    ticket, name, note = _make(user, origin)
    await hooks.aput_once(name, note, get_config().limits.ticket_s)
    return ticket


def is_ticket(token: str) -> bool:
    """Whether a token is one of these, by its form."""
    return _ticket.fullmatch(token) is not None


async def redeem(
    ticket: str, origin: str, *, take: Take, orm: Orm, ttl_s: float
) -> AbstractBaseUser | None:
    """The active user of a ticket, which is used up by that; ``None`` if it is not good.

    Args:
        ticket: As it came.
        origin: Of the page that brings it; ``""`` where there is none.
        take: Takes a note out of Redis; of several at once one gets it.
        orm: Looks the user up.
        ttl_s: How old it may be.

    Raises:
        BrokerUnavailable: Redis did not answer.
        DatabaseError: The database did not.
    """
    name = _name(ticket)
    stored = await take(name)
    if stored is None:
        return None
    try:
        # Redis ends it in time; this ends a note that somebody has put back.
        oldest = timedelta(seconds=ttl_s + _CLOCKS_S)
        note = signing.loads(stored.decode("ascii"), salt=_SALT, max_age=oldest)
        of, pk, page, sealed = note
    except (signing.BadSignature, ValueError, TypeError):
        return None
    # Signed, so it is ours; but somebody may have moved it to a ticket of his own.
    if of != name or page != plain_origin(origin):
        return None
    return await orm.run(_active_user, pk, sealed)


def _make(user: AbstractBaseUser, origin: str) -> tuple[str, str, bytes]:
    """A ticket, the name of its note, and the note."""
    if user.pk is None:
        raise ValueError("a ticket is for a user who is saved, not for an anonymous one")
    page = plain_origin(origin)
    if origin and not page:
        raise ValueError(f"{origin!r} is no origin; write it as in 'https://example.com'")
    ticket = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    name = _name(ticket)
    note = signing.dumps([name, str(user.pk), page, _seal(user)[0]], salt=_SALT)
    return ticket, name, note.encode("ascii")


def _name(ticket: str) -> str:
    return "ticket:" + hashlib.sha256(ticket.encode("ascii")).hexdigest()


def _seal(user: Any) -> list[str]:
    """What a new password changes, and what it is with older ``SECRET_KEY``s."""
    ways = [user.get_session_auth_hash()] if hasattr(user, "get_session_auth_hash") else []
    if hasattr(user, "get_session_auth_fallback_hash"):
        ways += user.get_session_auth_fallback_hash()
    return [hashlib.sha256(way.encode()).hexdigest()[:32] for way in ways] or [""]


def _active_user(pk: str, sealed: str) -> AbstractBaseUser | None:
    try:
        user: Any = get_user_model()._default_manager.filter(pk=pk).first()
    except (ValueError, TypeError, ValidationError):
        return None
    if user is None or not user.is_active:
        return None
    is_same = any(constant_time_compare(sealed, each) for each in _seal(user))
    return user if is_same else None
