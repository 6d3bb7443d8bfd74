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
from typing import TYPE_CHECKING, Any, NamedTuple

from django.contrib.auth import get_user_model
from django.core import signing
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare

from ..conf import get_config
from ..db import Orm
from ..hooks import hooks
from .origin import plain_origin
from .standing import digest_of, seals_of

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


class Redeemed(NamedTuple):
    """What a good ticket says.

    Attributes:
        user: Active, and with the password he had when it was issued.
        digest: `digest_of` the session key or token by which he asked for it; ``""`` where
            that was not said.
        seal: What his next password changes.
    """

    user: AbstractBaseUser
    digest: str
    seal: str


def issue(
    user: AbstractBaseUser, *, origin: str = "", session: str = "", token: str = ""
) -> str:
    """A ticket with which a client connects as a user, once, within ``limits["ticket_s"]``.

    Args:
        user: Who it is for.
        origin: Of the page that will use it, as ``"https://example.com"``; the socket's
            ``Origin`` has to be the same. ``""`` for a client that is no browser, which
            sends none.
        session: Key of the session that he asks with, ``request.session.session_key``: a
            logout ends what the ticket has opened. A digest of it is kept.
        token: Or the token that he asks with: deleting that ends it.

    Raises:
        BrokerUnavailable: Redis did not take it.
        TypeError: Both a session and a token.
        ValueError: The user is not saved, or the origin is none.
        RuntimeError: Called on a running event loop; use `aissue`.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        ticket, name, note = _make(user, origin, session, token)
        hooks.put_once(name, note, get_config().limits.ticket_s)
        return ticket
    raise RuntimeError("issue() would block the event loop; write `await aissue(...)` here")


async def aissue(
    user: AbstractBaseUser, *, origin: str = "", session: str = "", token: str = ""
) -> str:
    """`issue` for coroutines."""
    ticket, name, note = _make(user, origin, session, token)
    await hooks.aput_once(name, note, get_config().limits.ticket_s)
    return ticket


def is_ticket(token: str) -> bool:
    """Whether a token is one of these, by its form."""
    return _ticket.fullmatch(token) is not None


async def redeem(
    ticket: str, origin: str, *, take: Take, orm: Orm, ttl_s: float
) -> Redeemed | None:
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
        of, pk, page, sealed, digest = note
    except (signing.BadSignature, ValueError, TypeError):
        return None
    # Signed, so it is ours; but somebody may have moved it to a ticket of his own.
    if of != name or page != plain_origin(origin):
        return None
    user = await orm.run(_active_user, pk, sealed)
    return None if user is None else Redeemed(user, digest, sealed)


def _make(
    user: AbstractBaseUser, origin: str, session: str, token: str
) -> tuple[str, str, bytes]:
    """A ticket, the name of its note, and the note."""
    if session and token:
        raise TypeError("name one of session= and token=")
    if user.pk is None:
        raise ValueError("a ticket is for a user who is saved, not for an anonymous one")
    page = plain_origin(origin)
    if origin and not page:
        raise ValueError(f"{origin!r} is no origin; write it as in 'https://example.com'")
    ticket = PREFIX + secrets.token_urlsafe(_RANDOM_BYTES)
    name = _name(ticket)
    digest = digest_of(session or token) if session or token else ""
    seal = seals_of(user)[0]
    note = signing.dumps([name, str(user.pk), page, seal, digest], salt=_SALT)
    return ticket, name, note.encode("ascii")


def _name(ticket: str) -> str:
    return "ticket:" + hashlib.sha256(ticket.encode("ascii")).hexdigest()


def _active_user(pk: str, sealed: str) -> AbstractBaseUser | None:
    try:
        user: Any = get_user_model()._default_manager.filter(pk=pk).first()
    except (ValueError, TypeError, ValidationError):
        return None
    if user is None or not user.is_active:
        return None
    is_same = any(constant_time_compare(sealed, each) for each in seals_of(user))
    return user if is_same else None
