"""Letting a connection into channels: may it, what did it miss, and from where is it fed.

Everything that waits is done for all wishes of a batch together; the answers are then
given without waiting, so that each reply comes before the first live message.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from msgspec import Raw

from ...addresses import BROADCAST, address_kind
from ...auth.authorize import Grant
from ...auth.tokens import Claims, ExpiredToken, InvalidToken, verify
from ...codes import Code, Disconnects, Errors
from ...exceptions import BrokerUnavailable, PositionLost
from ...hub import Admission, Past
from ...messages import Message, Position
from ...options import ChannelOptions
from .expiries import ttl_s
from .protocol.commands import SubscribeRequest
from .protocol.results import SubscribeResult
from .protocol.session import REJECT_UNRECOVERED, Heard

if TYPE_CHECKING:
    from .connection import Connection
    from .gates import Gate

logger = logging.getLogger("redis_pubsub.live")


_NO_OPTIONS = ChannelOptions()


@dataclass(slots=True)
class Entry:
    """One wish on its way.

    Attributes:
        channel: The channel's name.
        wish: What the client asked for.
        is_server_side: The server wishes it, and has granted it.
        refusal: Why it fails, as soon as that is known.
        options: What holds for the channel.
        expires_at: Unix time at which a token's permission ends; 0 for never.
        chan_info: What the token wants others to be told.
        after: Where what it missed begins; `since`, unless more was withheld from it.
        replay: How many of the last messages it wants, if it is new.
        wants_position: Whether the channel has a history that this connection is to
            follow.
        replays: How many of the last messages it gets, being new.
    """

    channel: str
    wish: SubscribeRequest
    is_server_side: bool = False
    refusal: Code | None = None
    options: ChannelOptions = _NO_OPTIONS
    expires_at: float = 0
    chan_info: Raw = field(default_factory=Raw)
    by_row: bool = False
    by_token: bool = False
    begins: bool = False
    admission: Admission | None = None
    replayed: Sequence[Message] = ()
    gate: Gate | None = None
    past: Past | None = None
    after: Position | None = None
    is_in: bool = False
    is_withheld: bool = False
    replay: int = 0
    wants_position: bool = False
    replays: int = 0

    def rule(self, options: ChannelOptions) -> None:
        """Say what holds for the channel."""
        wish = self.wish
        self.options = options
        self.wants_position = options.has_history and (
            options.force_recovery
            or options.positioned
            or wish.recover
            or wish.recoverable
            or wish.positioned
        )
        self.replays = 0 if wish.recover else max(self.replay, options.replay)

    @property
    def since(self) -> Position | None:
        wish = self.wish
        return Position(wish.epoch, wish.offset) if wish.recover else None

    @property
    def foreign_token(self) -> str:
        """What is for the site's own method: not a token that was looked at here."""
        return "" if self.by_token else self.wish.token

    @property
    def reads(self) -> bool:
        """Whether it has to be known where the channel stands."""
        return self.wants_position or self.replays > 0

    @property
    def looks_back(self) -> bool:
        """Whether it gets any of what was said before."""
        return self.wish.recover or self.replays > 0

    @property
    def must_recover(self) -> bool:
        """Whether the client wants an error if it cannot have all that it missed."""
        wish = self.wish
        return bool(
            wish.recover and wish.flag & REJECT_UNRECOVERED and not self.is_server_side
        )

    @property
    def is_recoverable(self) -> bool:
        wish = self.wish
        return self.options.force_recovery or wish.recover or wish.recoverable


class Entering:
    """A batch of wishes of one connection; use as ``with``."""

    def __init__(self, connection: Connection, entries: list[Entry]) -> None:
        self._connection = connection
        self._server = connection.server
        self._entries = entries
        self._gates: list[tuple[Entry, Gate]] = []

    def __enter__(self) -> Entering:
        return self

    def __exit__(self, *error: Any) -> None:
        try:
            for entry, gate in self._gates:
                self._settle(entry, gate)
        finally:
            for entry in self._entries:
                if entry.admission is not None:
                    entry.admission.close()

    async def prepare(self) -> None:
        """Ask whether each may be, hear its channel, and read what was missed."""
        if not self._entries:
            return
        self._check_tokens()
        await self._authorize()
        granted = [entry for entry in self._entries if entry.refusal is None]
        # No task for each: that would cost more than what it does.
        for entry in granted:
            self._begin(entry)
        for entry in granted:
            if entry.admission is not None and not entry.admission.is_heard:
                await self._open(entry)
        reading = [each for each in granted if each.reads and each.refusal is None]
        for entry in reading:
            self._ask_ahead(entry)
        for entry in reading:
            await self._read(entry)
        looking = [each for each in reading if each.looks_back and each.refusal is None]
        if len(looking) == 1:
            await self._look_back(looking[0])
        elif looking:
            # All of them end before the first error goes on: none is left behind.
            looked = await asyncio.gather(
                *(self._look_back(entry) for entry in looking), return_exceptions=True
            )
            for outcome in looked:
                if outcome is not None:
                    raise outcome

    def admit(self, entry: Entry) -> SubscribeResult | Code:
        """Feed the connection from here on; what it is to be told first."""
        if entry.refusal is not None:
            return entry.refusal
        if not entry.is_server_side and entry.channel not in (
            self._connection.session.channels
        ):
            # The server has ended it before it began.
            return Errors.PERMISSION_DENIED
        assert entry.admission is not None, "prepared"
        try:
            past = self._past(entry, entry.admission)
        except PositionLost:
            self._connection.feeding.unfeed(entry.channel)
            return Errors.INTERNAL
        if entry.must_recover and not past.is_recovered:
            self._connection.feeding.unfeed(entry.channel)
            return Errors.UNRECOVERABLE_POSITION
        entry.is_in = True
        return self._result(entry, past)

    def _past(self, entry: Entry, admission: Admission) -> Past:
        if entry.gate is None:
            connection = self._connection
            line = connection.feeding.line_for(entry.channel, entry.options.slow)
            past = admission.admit(line)
            if not any(message.is_judged for message in past.missed):
                return past
        elif not entry.gate.is_lost and entry.past is not None:
            return entry.past
        # What came in the last moment cannot be told now; the client tries again.
        raise PositionLost(entry.channel)

    def _result(self, entry: Entry, past: Past) -> SubscribeResult:
        is_positioned = entry.wants_position and past.position is not None
        heard = self._connection.session.channels.setdefault(entry.channel, Heard())
        heard.is_server_side = entry.is_server_side
        heard.is_positioned = is_positioned
        heard.by_row, heard.by_token = entry.by_row, entry.by_token
        heard.token = entry.foreign_token if self._server.authorizer.has_method else ""
        result = SubscribeResult(was_recovering=entry.wish.recover)
        if entry.expires_at:
            result.expires = True
            result.ttl = ttl_s(entry.expires_at)
        if past.position is not None and not entry.wish.recover:
            entry.replayed = past.missed
        if past.position is None or not is_positioned:
            return result
        result.positioned = True
        result.recoverable = entry.is_recoverable
        result.epoch, result.offset = past.position.epoch, past.position.offset
        if entry.replayed:
            # It is as if the client had been there since just before them.
            result.offset = entry.replayed[0].position.offset - 1
        if past.is_recovered:
            result.recovered = True
            mine = self._connection.id
            result.publications = [m for m in past.missed if m.header.exclude != mine]
            if result.publications or not (past.missed or entry.is_withheld):
                # Each publication moves the client on from where it was; if all are kept
                # from it, only the top does.
                result.offset = entry.wish.offset
        return result

    # -- may it? -------------------------------------------------------------------------

    def _check_tokens(self) -> None:
        """Tokens of this site's own for one channel grant it, and no other does."""
        keys = self._server.options.token_keys
        for entry in self._entries:
            token = entry.wish.token
            is_own = keys and token.count(".") == 2
            if entry.refusal or entry.is_server_side or not is_own:
                continue
            try:
                claims = verify(token, keys)
            except ExpiredToken:
                entry.refusal = Errors.TOKEN_EXPIRED
            except InvalidToken:
                # Perhaps the site's own method knows it.
                continue
            else:
                self._take_claims(entry, claims)

    def _take_claims(self, entry: Entry, claims: Claims) -> None:
        if not self._connection.owns(claims) or claims.channel != entry.channel:
            # Somebody else's token: not a mistake that a new one would mend.
            self._connection.session.end(Disconnects.INVALID_TOKEN)
            entry.refusal = Errors.PERMISSION_DENIED
            return
        entry.by_token = True
        entry.expires_at, entry.chan_info = claims.exp, claims.info

    async def _authorize(self) -> None:
        asking = []
        for entry in self._entries:
            if entry.is_server_side:
                self._take_grant(entry, Grant(True))
            elif entry.refusal is None:
                asking.append(entry)
        if not asking:
            return
        connection = self._connection
        try:
            grants = await self._server.authorizer.grants(
                connection.user,
                [(entry.channel, entry.foreign_token) for entry in asking],
                session_key=connection.credentials.session_key,
                connection=connection.id,
                signed={entry.channel for entry in asking if entry.by_token},
            )
        except Exception:
            self._server.engine.metrics.count("auth_unavailable")
            logger.exception("who may hear what could not be looked up")
            for entry in asking:
                entry.refusal = Errors.INTERNAL
            return
        for entry, grant in zip(asking, grants, strict=True):
            self._take_grant(entry, grant)

    def _take_grant(self, entry: Entry, grant: Grant) -> None:
        if not grant.is_allowed and not (grant.by_row and entry.by_token):
            entry.refusal = Errors.PERMISSION_DENIED
            return
        entry.by_row = grant.by_row and not entry.by_token and not entry.is_server_side
        config = self._server.engine.config
        ruled = config.channel_options(entry.channel)
        if address_kind(entry.channel) == BROADCAST:
            # What is for everybody who is connected is kept only where a rule says so:
            # else losing it would send everybody away at once.
            entry.rule(ruled)
        else:
            entry.rule(config.model_channel_options(entry.channel))
        # A position is given out where messages to come will have one.
        entry.begins = ruled.has_history or grant.has_row or entry.is_server_side

    # -- from where? ---------------------------------------------------------------------

    def _begin(self, entry: Entry) -> None:
        entry.admission = self._server.engine.hub.admission(entry.channel)
        if not entry.reads:
            entry.admission.skip()
        entry.admission.begin()

    async def _open(self, entry: Entry) -> None:
        assert entry.admission is not None, "begun"
        try:
            await entry.admission.open()
        except BrokerUnavailable as error:
            self._unavailable(entry, error)

    def _ask_ahead(self, entry: Entry) -> None:
        assert entry.admission is not None, "begun"
        entry.after = since = entry.since
        if since is not None and not entry.is_server_side:
            entry.after = self._connection.feeding.moved_on(entry.channel, since)
            entry.is_withheld = entry.after != since
        entry.admission.ask_ahead(entry.after, begins=entry.begins, replay=entry.replays)

    async def _read(self, entry: Entry) -> None:
        """What was missed, or at least where the channel stands."""
        assert entry.admission is not None, "begun"
        try:
            await entry.admission.prepare(
                entry.after, begins=entry.begins, replay=entry.replays
            )
        except (BrokerUnavailable, PositionLost) as error:
            self._unavailable(entry, error)

    def _unavailable(self, entry: Entry, error: Exception) -> None:
        self._server.engine.metrics.count("live_unavailable")
        logger.warning("%r cannot be heard now: %s", entry.channel, error)
        entry.refusal = Errors.INTERNAL

    async def _look_back(self, entry: Entry) -> None:
        """Where not everybody sees alike: render for this client what it missed."""
        try:
            await self._render(entry)
        except (BrokerUnavailable, PositionLost) as error:
            self._unavailable(entry, error)

    async def _render(self, entry: Entry) -> None:
        admission = entry.admission
        assert admission is not None, "begun"
        audiences = self._server.engine.audiences
        is_strict = audiences.is_strict(entry.channel)
        if not is_strict and not any(m.is_judged for m in admission.peek().missed):
            return
        connection = self._connection
        gate = connection.feeding.gate_for(entry.channel, entry.options.slow)
        self._gates.append((entry, gate))
        past = admission.admit(gate)
        shown = await audiences.shown(entry.channel, past.missed, connection.viewer)
        entry.gate, entry.past = gate, past._replace(missed=shown)
        entry.is_withheld = entry.is_withheld or (bool(past.missed) and not shown)

    def _settle(self, entry: Entry, gate: Gate) -> None:
        """The reply is written, or there is none."""
        if entry.is_in:
            gate.open()
        else:
            self._connection.feeding.unfeed(entry.channel)
