"""Bounds of one serving process."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds with which a serving process protects itself.

    Attributes:
        connections: Sockets and streams of one process.
        connects_per_s: How many of them may come each second in the long run.
        connects_burst: How many may come at once.
        user_connections: Of one user in one process.
        address_connections: Of one client address in one process.
        address_connects_per_s: How many of one address may come each second.
        address_connects_burst: How many of one address may come at once.
        first_request_s: How long a new connection may take for its first request's head.
        message_bytes: Largest payload, encoded.
        command_bytes: Largest message a client may send to a handler.
        live_command_bytes: Largest frame a client may send to the live endpoint.
        messages_per_s: Messages a client may send to a handler each second.
        messages_burst: How many at once.
        bytes_per_s: Bytes a client may send to a handler each second.
        bytes_burst: How many at once; two of the largest messages at least.
        live_commands_per_s: Commands a live client may send each second.
        live_commands_burst: How many at once.
        live_bytes_per_s: Bytes a live client may send each second.
        live_bytes_burst: How many at once; two of the largest frames at least.
        control_frames_per_s: Pings and pongs a client may send each second.
        control_frames_burst: How many at once.
        live_channels: Channels one live connection may hear.
        live_calls: Procedure calls of one live connection that may run at once.
        live_connect_s: How long a live connection may go without its first command.
        live_expiry_grace_s: How long a client may take for a new token.
        send_buffer_bytes: What one connection may leave unsent before it is slow.
        write_deadline_s: How long a client may take nothing of what is unsent.
        receive_messages: Messages a handler may leave unread.
        receive_bytes: Bytes a handler may leave unread.
        reader_messages: Messages that may wait for one reader's callbacks.
        db_waiting: Database calls that may wait for a thread.
        heartbeat_s: Seconds between pings to a client.
        subscribe_timeout_s: How long a listen waits for Redis.
        probe_s: Silence after which Redis is probed, and how long the echo may take.
        loop_block_s: How long the event loop may stand still before that is logged.
        recovery_messages: Missed messages a client may get back at once.
        catch_up_messages: Undelivered publications a user is handed at once.
        presence_members: Members of a channel that a client may be told at once.
        handler_grace_s: How long a handler may run on after its client left.
        ticket_s: How long a one-use ticket is good.
        auth_failures: Bad tokens that one address may bring in a minute.
        recheck_s: How often it is looked whether those who are connected still may be.
    """

    connections: int = 20_000
    connects_per_s: float = 1_000.0
    connects_burst: int = 5_000
    user_connections: int = 100
    address_connections: int = 1_000
    address_connects_per_s: float = 20.0
    address_connects_burst: int = 1_000
    first_request_s: float = 10.0
    message_bytes: int = 1_048_576
    command_bytes: int = 4_194_304
    live_command_bytes: int = 65_536
    messages_per_s: float = 500.0
    messages_burst: int = 5_000
    bytes_per_s: float = 4_194_304.0
    bytes_burst: int = 16_777_216
    live_commands_per_s: float = 100.0
    live_commands_burst: int = 1_000
    live_bytes_per_s: float = 262_144.0
    live_bytes_burst: int = 4_194_304
    control_frames_per_s: float = 10.0
    control_frames_burst: int = 100
    live_channels: int = 128
    live_calls: int = 16
    live_connect_s: float = 10.0
    live_expiry_grace_s: float = 25.0
    send_buffer_bytes: int = 1_048_576
    write_deadline_s: float = 10.0
    receive_messages: int = 64
    receive_bytes: int = 1_048_576
    reader_messages: int = 1_000
    db_waiting: int = 10_000
    heartbeat_s: float = 25.0
    subscribe_timeout_s: float = 5.0
    probe_s: float = 2.0
    loop_block_s: float = 1.0
    recovery_messages: int = 1_000
    catch_up_messages: int = 1_000
    presence_members: int = 10_000
    handler_grace_s: float = 10.0
    ticket_s: float = 30.0
    auth_failures: int = 30
    recheck_s: float = 60.0


LIMIT_NAMES = frozenset(f.name for f in fields(Limits))
