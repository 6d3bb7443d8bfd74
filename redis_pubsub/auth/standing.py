"""What lets a connection in, and whether it still would.

Many connections share the queries: one for their users, one for their sessions, one for
their tokens. Nothing is written: a session that no longer fits is left to the page that
meets it next.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.core.exceptions import ValidationError
from django.db import router
from django.utils.crypto import constant_time_compare
from django.utils.encoding import force_bytes

from ..codes import Code, Disconnects
from .session import StoredSession, stored_sessions

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.auth")

_SALT = "redis_pubsub.standing"
_IS_ACTIVE = "is_active"

StillGood = Callable[[Collection[str]], Collection[str]]


def digest_of(secret: str) -> str:
    """What may be said of a session key or a token where others can read it."""
    key = _digest_key(settings.SECRET_KEY)
    return hmac.digest(key, secret.encode(), "sha256").hex()[:32]


@functools.lru_cache(maxsize=2)
def _digest_key(secret_key: str | bytes) -> bytes:
    # As Django's `salted_hmac` derives it, which does so for every digest.
    return hashlib.sha256(force_bytes(_SALT) + force_bytes(secret_key)).digest()


def seals_of(user: Any) -> list[str]:
    """What a new password changes, as a digest; after it what it is with older
    ``SECRET_KEY``s."""
    ways = [user.get_session_auth_hash()] if hasattr(user, "get_session_auth_hash") else []
    if hasattr(user, "get_session_auth_fallback_hash"):
        ways += user.get_session_auth_fallback_hash()
    return [hashlib.sha256(way.encode()).hexdigest()[:32] for way in ways] or [""]


@dataclass(slots=True)
class Standing:
    """Who a connection is, and by what right.

    Attributes:
        user: As last read; perhaps a `user_of_word`.
        session_key: Of the session that let it in; ``""`` if none did.
        token: The token that let it in, where its method can say later whether it is
            still good; else ``""``.
        still_good: That method's word; see `redis_pubsub.auth.methods.authtoken_method`.
        digest: `digest_of` session key or token; of a ticket, those it was issued for.
        expires_at: Unix time at which it ends; 0 for never, or not known yet.
        seal: Of a ticket's user: what his next password changes; ``""`` where none does.
        user_id: The user's primary key as text.
    """

    user: AbstractBaseUser
    session_key: str = ""
    token: str = ""
    still_good: StillGood | None = None
    digest: str = ""
    expires_at: float = 0
    seal: str = ""
    user_id: str = field(init=False)

    def __post_init__(self) -> None:
        self.user_id = str(self.user.pk)


class Verdict(NamedTuple):
    """Whether a connection may stay.

    Attributes:
        code: Why not; ``None`` if it may.
        user: Its row as it is now.
        expires_at: When the session ends; 0 if that cannot be said, or there is none.
    """

    code: Code | None
    user: AbstractBaseUser | None = None
    expires_at: float = 0


def user_of_word(pk: Any) -> AbstractBaseUser | None:
    """A user of whom a token's word is taken: that there is one with this primary key, and
    that he is active. Everything else is read when somebody looks at it, in a thread; so
    whoever only connects costs no query. ``None`` if that is no primary key."""
    model = get_user_model()
    try:
        key = model._meta.pk.to_python(pk)
    except ValidationError:
        return None
    if key is None or key == "":
        return None
    names = _taken_at_word(model)
    values = [True if name == _IS_ACTIVE else key for name in names]
    user: AbstractBaseUser = model.from_db(router.db_for_read(model), names, values)
    return user


@functools.lru_cache(maxsize=8)
def _taken_at_word(model: type[AbstractBaseUser]) -> tuple[str, ...]:
    """The fields of a `user_of_word`, in the model's order: `from_db` goes by that alone,
    and a primary key that a site gives to Django's abstract user is the last of them."""
    names = [each.attname for each in model._meta.concrete_fields]
    return tuple(name for name in names if name in (model._meta.pk.attname, _IS_ACTIVE))


def judge(standings: Sequence[Standing]) -> list[Verdict]:
    """Whether each would be let in now. Blocking: call it in a database thread.

    A user who is gone or inactive: 3507, final. A session that has ended, or a session or
    ticket that a new password has ended: 3005, so that a browser comes back with the
    session it has by now.
    A token that was deleted: 3500, final.
    """
    users = active_users({standing.user_id for standing in standings})
    sessions = stored_sessions({each.session_key for each in standings} - {""})
    good = _good_tokens(standings)
    return [_judge_one(each, users, sessions, good) for each in standings]


def active_users(pks: Iterable[str]) -> dict[str, AbstractBaseUser]:
    """The active users among these, by primary key as text. Asks the database that is
    written to: a replica may not know yet."""
    model = get_user_model()
    rows = model._default_manager.using(router.db_for_write(model)).filter(pk__in=list(pks))
    return {str(row.pk): row for row in rows if row.is_active}


def _judge_one(
    standing: Standing,
    users: dict[str, AbstractBaseUser],
    sessions: dict[str, StoredSession],
    good: Collection[tuple[StillGood, str]],
) -> Verdict:
    user = users.get(standing.user_id)
    if user is None:
        return Verdict(Disconnects.PERMISSION_DENIED)
    if (
        standing.still_good is not None
        and (standing.still_good, standing.token) not in good
    ):
        return Verdict(Disconnects.INVALID_TOKEN)
    if standing.seal and standing.seal not in seals_of(user):
        return Verdict(Disconnects.EXPIRED)
    if not standing.session_key:
        return Verdict(None, user)
    session = sessions.get(standing.session_key)
    if session is None or not _fits(session.data, user):
        return Verdict(Disconnects.EXPIRED)
    if session.expires_at and session.expires_at <= time.time():
        return Verdict(Disconnects.EXPIRED)
    return Verdict(None, user, session.expires_at)


def _fits(data: dict[str, Any], user: AbstractBaseUser) -> bool:
    """Whether a session is this user's, and of his present password: what
    `django.contrib.auth.get_user` asks, without ending the session where it is not."""
    if str(data.get(SESSION_KEY)) != user._meta.pk.value_to_string(user):
        return False
    if not hasattr(user, "get_session_auth_hash"):
        return True
    stored = data.get(HASH_SESSION_KEY) or ""
    hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
    return any(constant_time_compare(stored, fitting) for fitting in hashes)


def _good_tokens(standings: Iterable[Standing]) -> set[tuple[StillGood, str]]:
    tokens: dict[StillGood, set[str]] = {}
    for each in standings:
        if each.still_good is not None:
            tokens.setdefault(each.still_good, set()).add(each.token)
    return {
        (still_good, token)
        for still_good, asked in tokens.items()
        for token in still_good(asked)
    }
