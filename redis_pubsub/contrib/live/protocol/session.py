"""One client's conversation, without a socket: bytes in; commands and bytes out.

The session knows what may be said when, and what the client has been told. Who carries
the commands out comes back with the answer: `Session.answer`, `Session.fail`,
`Session.connected`, `Session.subscribed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from ....codes import Code, Disconnects, Errors, Unsubscribes
from ....exceptions import InvalidChannelName
from ....messages import check_channel_name, is_reserved
from .commands import Command, SubscribeRequest
from .forms import Form
from .json import BadRequest
from .results import ConnectResult, Result, SubscribeResult

REJECT_UNRECOVERED = 2
"""Bit of a subscribe command's ``flag``: answer error 112 instead of "not recovered"."""


class State(Enum):
    """How far a conversation is."""

    NEW = "new"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    OVER = "over"


@dataclass(slots=True)
class Heard:
    """One channel that the client hears, or is about to.

    Attributes:
        is_server_side: The server subscribed the connection, not the client.
        is_positioned: The client counts on being told when messages were missed.
        by_row: It ends with the user's `Subscription`.
        by_token: It was granted by a token, and no look at the rows ends it.
        is_confirmed: The client was told.
        token: What came along for the site's own method, which may be asked again.
    """

    is_server_side: bool = False
    is_positioned: bool = False
    by_row: bool = False
    by_token: bool = False
    is_confirmed: bool = False
    token: str = ""


class Session:
    """One client's conversation.

    Args:
        form: How it is spoken.
        channel_limit: Channels the client may ask for.

    Attributes:
        state: How far it is.
        ending: Why it is over, or about to be; the last thing the client is told.
        channels: What it hears.
        awaits_pong: A ping was sent and not answered.
    """

    __slots__ = (
        "_channel_limit",
        "_form",
        "_out",
        "awaits_pong",
        "channels",
        "ending",
        "state",
    )

    def __init__(self, form: Form, channel_limit: int) -> None:
        self._form = form
        self._channel_limit = channel_limit
        self._out: list[bytes] = []
        self.state = State.NEW
        self.ending: Code | None = None
        self.channels: dict[str, Heard] = {}
        self.awaits_pong = False

    # -- what the client says --------------------------------------------------------------

    def receive(self, data: bytes | str) -> list[Command]:
        """Take a frame; what is to be carried out, in order.

        Of a frame with anything wrong in it nothing is carried out, and `ending` is set.
        """
        if self.state is State.OVER:
            return []
        try:
            commands = self._form.codec.decode(data)
        except BadRequest:
            self.end(Disconnects.BAD_REQUEST)
            return []
        wanted = [command for command in commands if self._accept(command)]
        return [] if self.ending is not None else wanted

    def _accept(self, command: Command) -> bool:
        kind = command.kind
        if not kind and not command.id and self.state is not State.NEW:
            self.awaits_pong = False
            return False
        is_connect = kind == "connect"
        if (
            not kind
            or (not command.id and kind != "send")
            or is_connect is not (self.state is State.NEW)
            or getattr(getattr(command, kind), "channel", None) == ""
        ):
            self.end(Disconnects.BAD_REQUEST)
            return False
        if is_connect:
            self.state = State.CONNECTING
        return True

    def check_channel(self, channel: str) -> Code | None:
        """What is wrong with a channel's name, if anything."""
        if is_reserved(channel):
            return Errors.UNKNOWN_CHANNEL
        try:
            check_channel_name(channel)
        except InvalidChannelName:
            return Errors.BAD_REQUEST
        return None

    def begin(self, wish: SubscribeRequest) -> Code | None:
        """Begin a subscription, if nothing speaks against it; else say what does."""
        wrong = self.check_channel(wish.channel)
        if wrong is None and wish.type:
            wrong = Errors.NOT_AVAILABLE
        if wrong is None and bytes(wish.tf) not in (b"", b"null"):
            wrong = Errors.BAD_REQUEST
        if wrong is None and wish.channel in self.channels:
            wrong = Errors.ALREADY_SUBSCRIBED
        if wrong is None and self._wished() >= self._channel_limit:
            wrong = Errors.LIMIT_EXCEEDED
        if wrong is None:
            self.channels[wish.channel] = Heard()
        return wrong

    def _wished(self) -> int:
        """How many channels the client has asked for."""
        return sum(not heard.is_server_side for heard in self.channels.values())

    # -- what the client is told -----------------------------------------------------------

    def connected(self, command: Command, result: ConnectResult) -> None:
        """The connect command succeeded, with the channels in its ``subs``."""
        self.state = State.CONNECTED
        for channel in result.subs:
            self.channels[channel].is_confirmed = True
        self._out.append(self._form.codec.reply(command.id, "connect", result))

    def refused(self, command: Command, code: Code) -> None:
        """The connect command failed: the client closes, or tries again."""
        self.state = State.NEW
        self.channels.clear()
        self.fail(command, code)

    def subscribed(self, command: Command, channel: str, result: SubscribeResult) -> None:
        """A subscription that was begun has succeeded."""
        self.channels[channel].is_confirmed = True
        self.answer(command, result)

    def not_subscribed(self, command: Command, channel: str, code: Code) -> None:
        """A subscription that was begun has failed."""
        self.channels.pop(channel, None)
        self.fail(command, code)

    def answer(self, command: Command, result: Result) -> None:
        """A command was carried out."""
        self._out.append(self._form.codec.reply(command.id, command.kind, result))

    def fail(self, command: Command, code: Code) -> None:
        """A command was not carried out."""
        if command.id:
            self._out.append(self._form.codec.error(command.id, code))

    def was_subscribed(self, channel: str, result: SubscribeResult) -> None:
        """The server has begun a subscription by itself."""
        self.channels[channel].is_confirmed = True
        self._out.append(self._form.codec.subscribe_push(channel, result))

    def drop(self, channel: str, code: Code = Unsubscribes.SERVER) -> Heard | None:
        """The server ends a subscription.

        Returns:
            What it was; ``None`` if there was none.
        """
        heard = self.channels.pop(channel, None)
        if heard is not None and heard.is_confirmed:
            self._out.append(self._form.codec.unsubscribe_push(channel, code))
        return heard

    def end(self, code: Code) -> None:
        """The conversation is over; the first reason counts."""
        if self.ending is None:
            self.ending = code
        self.state = State.OVER

    def take(self) -> bytes:
        """What there is to send, ready for the wire; it is taken once."""
        if not self._out:
            return b""
        replies, self._out = self._out, []
        return self._form.join(replies)
