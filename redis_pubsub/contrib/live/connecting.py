"""Who a connection is: the connect command, and new tokens for old ones."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.db import InterfaceError, OperationalError
from msgspec import Raw

from ...auth import AuthUnavailable, Standing
from ...auth.lookups import Lookups
from ...auth.standing import active_users, digest_of, user_of_word
from ...auth.tickets import is_ticket
from ...auth.tokens import ExpiredToken, InvalidToken, expiry_of, verify
from ...codes import Code, Disconnects, Errors
from ...exceptions import PoolBusy
from ...web.handshake import TooManyFailures
from .entering import Entering, Entry
from .expiries import ttl_s
from .personal import own_channels
from .protocol.commands import NO_DATA, Command, ConnectRequest, SubscribeRequest
from .protocol.results import (
    ConnectResult,
    RefreshResult,
    SubRefreshResult,
    SubscribeResult,
)

if TYPE_CHECKING:
    from ...engine import Engine
    from .connection import Connection

logger = logging.getLogger("redis_pubsub.live")


class Refused(Exception):
    """A connection is not let in.

    Attributes:
        code: An error if the client may try again, else a disconnect.
    """

    def __init__(self, code: Code) -> None:
        super().__init__(code.reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Identity:
    """Who somebody is, and until when.

    Attributes:
        standing: ``None`` for nobody.
        expires_at: Unix time; 0 for never.
        info: What others are told of him.
    """

    standing: Standing | None
    expires_at: float = 0
    info: Raw = field(default_factory=Raw)


def _of_token(standing: Standing, expires_at: float, info: Raw = NO_DATA) -> Identity:
    """A token's end is the connection's to watch: a new one may come for it."""
    standing.expires_at = 0
    return Identity(standing, expires_at, info)


async def connect(connection: Connection, command: Command) -> None:
    """Let a client in: tell it who it is here, and what it hears without asking."""
    request = command.connect
    assert request is not None, "a connect command"
    server = connection.server
    refreshes, began = server.refreshes, time.monotonic()
    try:
        identity = await recognize(connection, request, began)
        await _admit(connection, command, request, identity)
        keep_watch(connection, refreshes)
    except Refused as refusal:
        server.engine.metrics.count("live_refused")
        for channel in list(connection.session.channels):
            # It was let into these before the next one failed.
            connection.leave(channel)
        if refusal.code.code < 3000:
            connection.session.refused(command, refusal.code)
        else:
            connection.session.end(refusal.code)


async def recognize(
    connection: Connection, request: ConnectRequest, began: float
) -> Identity:
    """Find out who a client is, and whether he may have another connection.

    Args:
        connection: His.
        request: What it has said.
        began: Of ``time.monotonic()``: who is sent away from then on is not let in.

    Raises:
        Refused: He is not let in.
    """
    identity = await identify(connection, request)
    connection.conn_info = identity.info
    if not connection.identified(identity.standing):
        raise Refused(Disconnects.INVALID_TOKEN)
    ended = connection.server.ended_since(began, connection.standing)
    if ended is not None:
        raise Refused(ended)
    if not connection.claim_place(connection.user_id):
        raise Refused(Disconnects.CONNECTION_LIMIT)
    return identity


def keep_watch(connection: Connection, refreshes: int) -> None:
    """From now on look whether a connection that was let in may stay.

    Args:
        connection: Which.
        refreshes: `LiveServer.refreshes` when it was asked who it is.
    """
    server = connection.server
    if connection.session.ending is None:
        server.rechecks.watch(connection, server.rechecks.heard)
    if server.refreshes != refreshes and connection.user_id:
        # He may not be any more who he was when he was looked up.
        server.look_again(connection.user_id, entirely=True)


async def _admit(
    connection: Connection, command: Command, request: ConnectRequest, identity: Identity
) -> None:
    try:
        own = await own_channels(connection)
    except Exception:
        connection.server.engine.metrics.count("auth_unavailable")
        logger.exception("what a connection hears without asking could not be found out")
        raise Refused(Errors.INTERNAL) from None
    entries = [
        Entry(channel, request.subs.get(channel) or SubscribeRequest(), is_server_side=True)
        for channel in own
    ]
    with Entering(connection, entries) as entering:
        await entering.prepare()
        if connection.session.ending is not None:
            return
        subs = {}
        for entry in entries:
            outcome = entering.admit(entry)
            if not isinstance(outcome, SubscribeResult):
                # Never half of what it is to hear.
                raise Refused(outcome)
            subs[entry.channel] = outcome
        result = _result(connection, request, identity, subs)
        connection.session.connected(command, result)
        if entries:
            connection.flush()
            connection.replay(entries)
    connection.connected()
    connection.expire("", identity.expires_at)
    await connection.entered(entries)


def _result(
    connection: Connection,
    request: ConnectRequest,
    identity: Identity,
    subs: dict[str, SubscribeResult],
) -> ConnectResult:
    server = connection.server
    session = connection.line.session
    result = ConnectResult(
        client=connection.id,
        version=server.version,
        subs=subs,
        ping=server.ping_s,
        pong=True,
        session=session,
        node=server.engine.node if session else "",
    )
    # Only who sent a token with the command can send a new one.
    if identity.expires_at and request.token:
        result.expires, result.ttl = True, ttl_s(identity.expires_at)
    return result


async def identify(connection: Connection, request: ConnectRequest) -> Identity:
    """Who a connect command, or the handshake before it, says the client is.

    Raises:
        Refused: A bad token, or none where one is wanted.
    """
    credentials = connection.credentials
    token = request.token or _stand_in(request.headers) or credentials.token
    if token:
        return await identity_of_token(connection, token)
    try:
        standing = await connection.server.gatekeeper.standing_of(credentials)
    except AuthUnavailable:
        raise Refused(Errors.INTERNAL) from None
    if standing is None and not connection.server.options.anonymous:
        raise Refused(Disconnects.PERMISSION_DENIED)
    return Identity(standing)


async def identity_of_token(connection: Connection, token: str) -> Identity:
    """Who a token says somebody is: this site's own kind first, then the site's methods.

    Raises:
        Refused: Nobody knows it, its time is over, that cannot be said now, or too many bad
            ones came from this address.
    """
    server, brought = connection.server, connection.credentials
    keys = server.options.token_keys
    try:
        server.gatekeeper.refuse_guesser(brought.address)
        if keys and token.count(".") == 2:
            try:
                claims = verify(token, keys)
            except ExpiredToken:
                raise Refused(Errors.TOKEN_EXPIRED) from None
            except InvalidToken:
                pass
            else:
                if server.options.trust_tokens:
                    user = user_of_word(claims.sub)
                else:
                    user = await server.engine.part(_Users).get(claims.sub)
                if user is None or claims.channel:
                    raise Refused(Disconnects.INVALID_TOKEN)
                standing = Standing(user, digest=digest_of(token))
                return _of_token(standing, claims.exp, claims.info)
        found = await server.gatekeeper.standing_of(brought._replace(token=token))
    except TooManyFailures:
        raise Refused(Errors.TOO_MANY_REQUESTS) from None
    except (AuthUnavailable, OperationalError, InterfaceError, PoolBusy) as error:
        logger.warning("a token could not be checked: %s", error)
        raise Refused(Errors.INTERNAL) from None
    if found is not None:
        return _of_token(found, found.expires_at)
    expires_at = expiry_of(token)
    # Its own word is enough here: all it leads to is that the client asks for a new one. So
    # has a client to that comes back with the ticket it has used; client libraries keep it.
    is_expired = is_ticket(token) or 0 < expires_at <= time.time()
    raise Refused(Errors.TOKEN_EXPIRED if is_expired else Disconnects.INVALID_TOKEN)


async def refresh(connection: Connection, command: Command) -> None:
    """A new token for the connection: of the same user, or it is over."""
    request = command.refresh
    assert request is not None, "a refresh command"
    server = connection.server
    refreshes, began = server.refreshes, time.monotonic()
    try:
        identity = await identity_of_token(connection, request.token)
    except Refused as refusal:
        if refusal.code is Errors.TOKEN_EXPIRED:
            # An error 109 here would be the end for the client; this is not.
            connection.session.end(Disconnects.EXPIRED)
        elif refusal.code.code < 3000:
            connection.session.fail(command, refusal.code)
        else:
            connection.session.end(refusal.code)
        return
    standing = identity.standing
    if standing is None or standing.user_id != connection.user_id:
        connection.session.end(Disconnects.INVALID_TOKEN)
        return
    ended = server.ended_since(began, standing)
    if ended is not None:
        connection.session.end(ended)
        return
    connection.standing = standing
    connection.expire("", identity.expires_at)
    # Looks that are under way are at what he was let in by before.
    keep_watch(connection, refreshes)
    result = RefreshResult(connection.id, server.version)
    if identity.expires_at:
        result.expires, result.ttl = True, ttl_s(identity.expires_at)
    connection.session.answer(command, result)


async def sub_refresh(connection: Connection, command: Command) -> None:
    """A new token for one channel."""
    request = command.sub_refresh
    assert request is not None, "a sub_refresh command"
    heard = connection.session.channels.get(request.channel)
    if heard is None:
        connection.session.fail(command, Errors.PERMISSION_DENIED)
        return
    try:
        claims = verify(request.token, connection.server.options.token_keys)
    except ExpiredToken:
        # Temporary: the client asks its site for another one, and tries again.
        connection.session.fail(command, Errors.INTERNAL)
        return
    except InvalidToken:
        connection.session.end(Disconnects.INVALID_TOKEN)
        return
    if not connection.owns(claims) or claims.channel != request.channel:
        connection.session.end(Disconnects.INVALID_TOKEN)
        return
    connection.expire(request.channel, claims.exp)
    result = SubRefreshResult()
    if claims.exp:
        result.expires, result.ttl = True, ttl_s(claims.exp)
    connection.session.answer(command, result)


def _stand_in(headers: dict[str, str]) -> str:
    """The token in place of the header that a browser cannot set; no other is believed."""
    for name, value in headers.items():
        if name.lower() == "authorization":
            return value.rpartition(" ")[2]
    return ""


class _Users(Lookups):
    """Active users by primary key as text, for one engine."""

    def __init__(self, engine: Engine) -> None:
        waiting = engine.config.limits.db_waiting
        super().__init__(engine.orm, self._look_up, active_users, waiting=waiting)

    def _look_up(self, pk: str) -> Any:
        return _active_user(pk)


def _active_user(pk: str) -> Any:
    users = get_user_model()._default_manager
    try:
        user = users.filter(pk=pk).first()
    except (ValueError, TypeError, ValidationError):
        return None
    return user if user is not None and user.is_active else None
