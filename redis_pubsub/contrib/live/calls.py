"""What a connected client asks for, besides hearing channels."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from msgspec import Raw

from ... import codec
from ...auth.authorize import HISTORY, PRESENCE, PUBLISH
from ...broker import FORWARD, REVERSE, Read
from ...codes import Code, Disconnects, Errors
from ...exceptions import BrokerUnavailable, InvalidPayload, PayloadTooLarge
from ...messages import new_header
from ...options import ChannelOptions
from ...publishing.drafts import draft_of_raw
from ...publishing.publisher import publisher
from .procedures import MESSAGE, Procedure, error_of
from .protocol.commands import Command
from .protocol.results import (
    Empty,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    RPCResult,
)

if TYPE_CHECKING:
    from .connection import Connection

logger = logging.getLogger("redis_pubsub.live")


class Failed(Exception):
    """A call has no result but a code."""

    def __init__(self, code: Code) -> None:
        super().__init__(code.reason)
        self.code = code


async def publish(connection: Connection, command: Command) -> None:
    """Send a client's message to a channel."""
    request = command.publish
    assert request is not None, "a publish command"
    engine = connection.server.engine
    try:
        await _check(connection, request.channel, PUBLISH)
        if engine.audiences.is_strict(request.channel):
            # Who may see what a client says is nobody's to say.
            raise Failed(Errors.PERMISSION_DENIED)
        raw = codec.one_line(bytes(request.data))
        header = new_header(info=connection.info_fields())
        draft = draft_of_raw(engine.config, request.channel, raw, header)
        # What a call before this one has committed comes first.
        await publisher.asettle()
        await engine.hub.broker.publish([draft])
    except Failed as failure:
        connection.session.fail(command, failure.code)
    except PayloadTooLarge:
        connection.session.fail(command, Errors.LIMIT_EXCEEDED)
    except InvalidPayload:
        connection.session.fail(command, Errors.BAD_REQUEST)
    except BrokerUnavailable as error:
        _unavailable(connection, command, error)
    else:
        connection.session.answer(command, Empty())


async def history(connection: Connection, command: Command) -> None:
    """What a channel keeps."""
    request = command.history
    assert request is not None, "a history command"
    since = request.since
    try:
        options = await _check(connection, request.channel, HISTORY)
        if not options.has_history:
            raise Failed(Errors.NOT_AVAILABLE)
        if request.reverse and since is not None and since.offset == 0:
            raise Failed(Errors.BAD_REQUEST)
        limit = options.history_size if request.limit < 0 else request.limit
        read = Read(
            request.channel,
            since=None if since is None else since.offset,
            limit=min(
                limit,
                options.history_size,
                connection.server.limits.recovery_messages,
            ),
            order=REVERSE if request.reverse else FORWARD,
            # Names are clients' texts: asking for one must leave nothing in Redis.
            begins=False,
        )
        await publisher.asettle()
        (found,) = await connection.server.engine.hub.broker.read([read])
        ruled = connection.server.engine.config.channel_options(request.channel)
        if not found.position.epoch and not ruled.has_history:
            raise Failed(Errors.NOT_AVAILABLE)
        if since is not None and since.epoch not in ("", found.position.epoch):
            raise Failed(Errors.UNRECOVERABLE_POSITION)
        audiences = connection.server.engine.audiences
        shown = await audiences.shown(request.channel, found.messages, connection.viewer)
    except Failed as failure:
        connection.session.fail(command, failure.code)
    except BrokerUnavailable as error:
        _unavailable(connection, command, error)
    else:
        position = found.position
        connection.session.answer(
            command, HistoryResult(shown, position.epoch, position.offset)
        )


async def presence(connection: Connection, command: Command) -> None:
    """Who hears a channel."""
    request = command.presence
    assert request is not None, "a presence command"
    try:
        options = await _check(connection, request.channel, PRESENCE)
        if not options.presence:
            raise Failed(Errors.NOT_AVAILABLE)
        attendance = connection.server.presence
        counts = await attendance.counts(request.channel)
        if counts[0] > connection.server.limits.presence_members:
            # `presence_stats` says how many.
            raise Failed(Errors.LIMIT_EXCEEDED)
        infos = await attendance.infos(request.channel, options)
    except Failed as failure:
        connection.session.fail(command, failure.code)
    except BrokerUnavailable as error:
        _unavailable(connection, command, error)
    else:
        connection.session.answer(command, PresenceResult(infos))


async def presence_stats(connection: Connection, command: Command) -> None:
    """How many hear a channel."""
    request = command.presence_stats
    assert request is not None, "a presence_stats command"
    try:
        options = await _check(connection, request.channel, PRESENCE)
        if not options.presence:
            raise Failed(Errors.NOT_AVAILABLE)
        counts = await connection.server.presence.counts(request.channel)
    except Failed as failure:
        connection.session.fail(command, failure.code)
    except BrokerUnavailable as error:
        _unavailable(connection, command, error)
    else:
        connection.session.answer(command, PresenceStatsResult(*counts))


async def rpc(connection: Connection, command: Command) -> None:
    """Call one of the site's procedures; others may run meanwhile."""
    request = command.rpc
    assert request is not None, "an rpc command"
    procedures = connection.server.procedures
    procedure = procedures.get(request.method) if request.method else None
    if procedure is None:
        is_any = any(name != MESSAGE for name in procedures)
        code = Errors.METHOD_NOT_FOUND if is_any else Errors.NOT_AVAILABLE
        connection.session.fail(command, code)
    elif not connection.run(_call(connection, command, procedure, request.data)):
        connection.session.fail(command, Errors.TOO_MANY_REQUESTS)


async def _call(
    connection: Connection, command: Command, procedure: Procedure, data: Raw
) -> None:
    server = connection.server
    try:
        result = await procedure.answer(server.engine.orm, connection.user, data)
    except Exception as error:
        server.engine.metrics.count("rpc_errors")
        connection.session.fail(command, error_of(procedure, error))
    else:
        connection.session.answer(command, RPCResult(Raw(result)))


async def send(connection: Connection, command: Command) -> None:
    """Hand a message that wants no answer to the site's function, in order."""
    request = command.send
    assert request is not None, "a send command"
    procedure = connection.server.procedures.get(MESSAGE)
    if procedure is None:
        connection.session.end(Disconnects.NOT_AVAILABLE)
        return
    server = connection.server
    try:
        await procedure.answer(server.engine.orm, connection.user, request.data)
    except Exception as error:
        server.engine.metrics.count("rpc_errors")
        error_of(procedure, error)


async def _check(connection: Connection, channel: str, action: str) -> ChannelOptions:
    """Whether a channel's name is one, and the client may do that.

    Raises:
        Failed: It is none, or the client may not.
    """
    wrong = connection.session.check_channel(channel)
    if wrong is not None:
        raise Failed(wrong)
    server = connection.server
    try:
        is_allowed = await server.authorizer.may(
            connection.user,
            channel,
            action,
            is_subscribed=channel in connection.session.channels,
            session_key=connection.credentials.session_key,
            connection=connection.id,
        )
    except Exception:
        server.engine.metrics.count("auth_unavailable")
        logger.exception("who may %s could not be looked up", action)
        raise Failed(Errors.INTERNAL) from None
    # Who was sent away while this was asked may nothing any more.
    if not is_allowed or connection.session.ending is not None:
        raise Failed(Errors.PERMISSION_DENIED)
    return server.engine.config.model_channel_options(channel)


def _unavailable(connection: Connection, command: Command, error: Exception) -> None:
    connection.server.engine.metrics.count("live_unavailable")
    logger.warning("%s: %s", command.kind, error)
    connection.session.fail(command, Errors.INTERNAL)
