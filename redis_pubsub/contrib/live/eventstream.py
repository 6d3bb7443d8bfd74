"""A live connection that only listens: plain server-sent events."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from ...codes import Code, Disconnects, Unsubscribes
from ...messages import Message
from ...web.connections import EVENTS
from .connection import Connection
from .entering import Entry
from .expiries import Expiries
from .feeding import Feeding, Feedline
from .protocol.commands import SubscribeRequest
from .protocol.events import (
    id_block,
    named_block,
    placed_block,
    position_in,
    positions_of,
    reset_block,
    text_of,
    with_id,
)
from .protocol.results import SubscribeResult

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...web.admission import Place
    from ...web.handshake import Credentials
    from .server import LiveServer
    from .streams import StreamLine


class EventStream(Connection):
    """One stream of plain events. Its channels are those it came with: where one of them
    ends, the stream does, and its client comes back and asks anew.

    Attributes:
        channels: What it hears, in the client's order.
        has_begun: Whether the response's head is on its way.
    """

    kind = EVENTS
    hears_unasked = False
    __slots__ = ("_positions", "channels", "has_begun")

    def __init__(
        self,
        server: LiveServer,
        line: StreamLine,
        credentials: Credentials,
        place: Place,
        channels: Sequence[str],
    ) -> None:
        super().__init__(server, line, credentials, place)
        self.channels = channels
        self.has_begun = False
        self._positions = [text_of(None)] * len(channels)
        self.feeding = _StreamFeeding(self)
        # There is no way to bring a new token, so nothing to wait for.
        self._expiries = Expiries(0.0, self._expired)

    def wishes(self, last_id: str, replay: int) -> list[Entry]:
        """What it asks for.

        Args:
            last_id: Where the client was; ``""`` if it is new.
            replay: How many of the last messages who is new wants.
        """
        if not last_id:
            return [
                Entry(
                    channel,
                    SubscribeRequest(channel=channel, recoverable=True),
                    replay=replay,
                )
                for channel in self.channels
            ]
        known = positions_of(last_id, len(self.channels))
        return [
            Entry(
                channel,
                SubscribeRequest(
                    channel=channel,
                    recover=True,
                    epoch=position.epoch,
                    offset=position.offset,
                ),
            )
            for channel, position in zip(self.channels, known, strict=True)
        ]

    def begin(self, entries: Sequence[Entry], results: Sequence[SubscribeResult]) -> None:
        """Say where each channel stands, and what was missed; before anything live."""
        block = named_block if len(self.channels) == 1 else placed_block
        blocks = []
        for number, (entry, result) in enumerate(zip(entries, results, strict=True)):
            self.session.channels[entry.channel].is_confirmed = True
            if entry.wish.recover and not result.recovered:
                blocks.append(reset_block(entry.channel))
            missed: Sequence[Message] = result.publications or entry.replayed
            blocks += map(block, missed)
            self._positions[number] = _reached(result, missed)
        blocks.append(id_block(self._positions))
        self.line.outlet.write(self.line.form.envelop(b"".join(blocks)))

    def write_placed(self, number: int, blocks: bytes) -> None:
        """Send what one of several channels brought, and where all of them are."""
        position = position_in(blocks)
        if position:
            self._positions[number] = position
            blocks = with_id(blocks, self._positions)
        self.line.outlet.write(self.line.form.envelop(blocks))

    # -- how it ends ---------------------------------------------------------------------

    def unsubscribe(self, channel: str, code: Code = Unsubscribes.SERVER) -> bool:
        """The client may not hear a channel any more: it finds that out when it comes
        back."""
        if channel not in self.session.channels:
            return False
        self.end(code)
        return True

    def come_back(self, channel: str) -> None:
        """See `Connection`: it comes back with the position that it has."""
        self.end(Disconnects.INSUFFICIENT_STATE)

    def check_pong(self) -> None:
        """Who reads a stream says nothing; who does not read is noticed by what is
        unsent."""

    def _close(self, code: Code) -> None:
        # Before the head there is nothing to say it in: whoever lets it in looks.
        if self.has_begun:
            super()._close(code)


class _StreamFeeding(Feeding):
    """Of one channel its own form; of several, blocks that say which they are of."""

    __slots__ = ("_stream",)

    def __init__(self, stream: EventStream) -> None:
        super().__init__(stream)
        self._stream = stream

    def line_for(self, channel: str, policy: str) -> Feedline:
        """See `Feeding`."""
        stream = self._stream
        if len(stream.channels) == 1:
            line = Feedline(stream, stream.line.form.publication)
        else:
            line = Feedline(stream, placed_block)
            number = stream.channels.index(channel)
            line.write = functools.partial(stream.write_placed, number)
        return self._keep(channel, line, policy)


def _reached(result: SubscribeResult, missed: Sequence[Message]) -> str:
    """Where a client is that has been told what it missed."""
    for message in reversed(missed):
        if message.position.offset:
            return text_of(message.position)
    if not result.epoch:
        return text_of(None)
    return f"{result.epoch}:{result.offset}"
