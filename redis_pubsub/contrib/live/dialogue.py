"""Carrying out what a client says, command by command, in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from ...codes import Disconnects
from . import calls
from .connecting import connect, refresh, sub_refresh
from .connection import Connection
from .entering import Entering, Entry
from .protocol.commands import Command
from .protocol.results import Empty, SubscribeResult
from .protocol.session import State
from .rationing import refuse

logger = logging.getLogger("redis_pubsub.live")

COMMANDS_PER_TURN = 64
"""After so many commands of one frame the loop may serve others."""
TOGETHER_S = 0.025
"""How long the reply to a connect command waits for those to what came along with it."""


class Said(NamedTuple):
    """What a frame holds.

    Attributes:
        wanted: To be carried out, in order.
        refused: Commands that were too many.
    """

    wanted: list[Command]
    refused: list[Command]


async def hear(connection: Connection, data: bytes | str) -> None:
    """Take a frame, and carry out what is in it; whatever fails ends the connection with a
    code and a traceback in the log."""
    said = begin(connection, data)
    if said is not None:
        await carry_out(connection, said)


def begin(connection: Connection, data: bytes | str) -> Said | None:
    """Take a frame.

    Returns:
        What is to be carried out before the next is taken; ``None`` if that is nothing, as
        in the answer to a ping.
    """
    try:
        commands = connection.session.receive(data)
        wanted, refused = connection.server.rations.charge(connection, commands)
    except Exception:
        _failed(connection)
        return None
    if wanted or refused:
        return Said(wanted, refused)
    if connection.session.ending is not None:
        connection.flush()
    return None


async def carry_out(connection: Connection, said: Said) -> None:
    """Carry out what a frame holds; see `hear`."""
    try:
        await _carry_out(connection, said.wanted)
        if said.refused:
            refuse(connection, said.refused)
    except asyncio.CancelledError:
        # Of something that the site waited for, if it is not the connection that is over:
        # whose command was left half carried out cannot go on from there.
        if connection.session.ending is None:
            _failed(connection)
        raise
    except Exception:
        _failed(connection)
    connection.flush()


def _failed(connection: Connection) -> None:
    connection.server.engine.metrics.count("live_errors")
    logger.exception("a command of connection %s failed", connection.id)
    connection.end(Disconnects.INTERNAL_ERROR)


async def _carry_out(connection: Connection, commands: list[Command]) -> None:
    if len(commands) < 2 or commands[0].connect is None:
        await _one_by_one(connection, commands)
        return
    # Who connects and subscribes in one breath is answered in one: a write costs as much as
    # half of what is asked. But the first reply does not wait long for the others.
    loop = asyncio.get_running_loop()
    patience = loop.call_later(TOGETHER_S, connection.flush)
    try:
        await _one_by_one(connection, commands)
    finally:
        patience.cancel()


async def _one_by_one(connection: Connection, commands: list[Command]) -> None:
    done, turn_at = 0, COMMANDS_PER_TURN
    while done < len(commands) and connection.session.ending is None:
        batch = _leading_subscribes(commands, done)
        if batch:
            await _subscribe(connection, batch)
        else:
            await _HOW[commands[done].kind](connection, commands[done])
            if commands[done].connect is None:
                connection.flush()
        if connection.session.state is not State.CONNECTED:
            # A refused connect: what came along with it is not carried out.
            return
        done += len(batch) or 1
        if done >= turn_at:
            turn_at = done + COMMANDS_PER_TURN
            await asyncio.sleep(0)


def _leading_subscribes(commands: list[Command], begin: int) -> list[Command]:
    """The subscribe commands at a place that follow each other: they go together."""
    end = begin
    while end < len(commands) and commands[end].subscribe is not None:
        end += 1
    return commands[begin:end]


async def _subscribe(connection: Connection, commands: list[Command]) -> None:
    """Subscribe to several channels at once: one query, one read of each stream."""
    session, server = connection.session, connection.server
    begun: list[tuple[Command, Entry]] = []
    for command in commands:
        wish = command.subscribe
        assert wish is not None, "a batch of subscribe commands"
        wrong = session.begin(wish)
        if wrong is None:
            begun.append((command, Entry(wish.channel, wish)))
        else:
            session.fail(command, wrong)
    entered = []
    changes, refreshes = server.changes, server.refreshes
    with Entering(connection, [entry for _, entry in begun]) as entering:
        await entering.prepare()
        if session.ending is not None:
            return
        for command, entry in begun:
            outcome = entering.admit(entry)
            if isinstance(outcome, SubscribeResult):
                session.subscribed(command, entry.channel, outcome)
                entered.append(entry)
            else:
                session.not_subscribed(command, entry.channel, outcome)
        connection.flush()
        connection.replay(entered)
    if server.changes != changes and connection.user_id:
        # What was granted may have been taken back between the two.
        entirely = server.refreshes != refreshes
        server.look_again(connection.user_id, entirely=entirely)
    await connection.entered(entered)


async def _unsubscribe(connection: Connection, command: Command) -> None:
    request = command.unsubscribe
    assert request is not None, "an unsubscribe command"
    wrong = connection.session.check_channel(request.channel)
    if wrong is None:
        connection.leave(request.channel)
        connection.session.answer(command, Empty())
    else:
        connection.session.fail(command, wrong)


async def _ping(connection: Connection, command: Command) -> None:
    connection.session.answer(command, Empty())


_HOW: dict[str, Callable[[Connection, Command], Awaitable[None]]] = {
    "connect": connect,
    "unsubscribe": _unsubscribe,
    "publish": calls.publish,
    "presence": calls.presence,
    "presence_stats": calls.presence_stats,
    "history": calls.history,
    "rpc": calls.rpc,
    "send": calls.send,
    "refresh": refresh,
    "sub_refresh": sub_refresh,
    "ping": _ping,
}
