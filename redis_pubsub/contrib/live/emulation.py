"""The way up for streams: posts, which may reach any process, brought to the one that has
the stream."""

from __future__ import annotations

import asyncio
import hmac
import logging
import math
import secrets
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
from aiohttp import hdrs, web
from django.conf import settings
from django.utils.crypto import salted_hmac

from ...auth.session import session_key_of
from ...engine import Engine
from ...exceptions import BrokerUnavailable
from ...messages import Draft, Message, new_header, reserved_channel
from ...proxies import TrustedProxies
from ...web.buckets import Buckets
from ...web.clients import Clients
from ...web.handshake import Gatekeeper
from ...web.keys import ENGINE
from .http import allow_origin, body_of

if TYPE_CHECKING:
    from .streams import StreamLine

logger = logging.getLogger("redis_pubsub.live")

_ENVELOPE_BYTES = 1_024
"""What a post may have besides its commands."""
LOOK_S = 1.0
"""How often it is looked whether the clients of streams are still there."""
ARRIVING = 512
"""Bodies of posts that a process takes at once: before they are whole nobody knows whether
they are any; of one address an eighth of them."""
_SALT = "redis_pubsub.live.session"


class Post(msgspec.Struct):
    """What a client posts.

    Attributes:
        session: Which stream it belongs to.
        node: Which process has that stream.
        data: Commands, as a frame of a socket would have them.
        has_moved: Instead of commands: the browser has another session by now.
    """

    session: str
    node: str
    data: str
    has_moved: bool = False


_decoder = msgspec.json.Decoder(Post)


class PostOffice:
    """Brings posts to the streams of one process.

    A session's name is a secret, signed together with the process that has the stream
    and the cookie of the browser that opened it: any process can tell whether a post may
    speak for the stream, without asking. A browser that has logged in or out since has
    another cookie: it may not post, and its stream ends so that it comes back as who it
    is now.
    """

    framing = None
    connection_id = ""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lines: dict[str, StreamLine] = {}
        self._timer: asyncio.TimerHandle | None = None
        limits = engine.config.limits
        # What one session may post through this process.
        self._posting = Buckets(limits.live_commands_burst, limits.live_commands_per_s)
        # And one address, of posts that are none: they cost as much to look at.
        self._clients = Clients(TrustedProxies(engine.config.trusted_proxies))
        self._failing = Buckets(
            limits.address_connects_burst, limits.address_connects_per_s
        )
        self._arriving: Counter[str] = Counter()
        engine.closing.callback(self._stop_looking)

    async def open(self) -> None:
        """Hear what other processes bring; once is enough.

        Raises:
            BrokerUnavailable: Redis did not confirm.
        """
        channel = _channel_of(self._engine.node)
        if not self._engine.hub.is_heard(channel):
            await self._engine.hub.listen(channel, self)

    def add(self, line: StreamLine) -> None:
        self._lines[line.session] = line
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        """One timer for all streams: thousands of them cost next to nothing."""
        self._timer = None
        for line in list(self._lines.values()):
            line.look()
        if self._lines:
            self._arm()

    def _stop_looking(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def check_pace(self, session: str) -> None:
        """Let a post of a session pass.

        Raises:
            web.HTTPTooManyRequests: There were too many.
        """
        if not self._posting.take(session):
            raise self._too_many(self._posting.wait_s(session))

    def check_address(self, request: web.Request) -> None:
        """Let nobody pass whose posts were none too often.

        Raises:
            web.HTTPTooManyRequests: They were.
        """
        wait_s = self._failing.wait_s(self._clients.counted_as(request))
        if wait_s:
            raise self._too_many(wait_s)

    @contextmanager
    def arriving(self, request: web.Request) -> Iterator[None]:
        """Have a place for the body of a post, for as long as it arrives.

        Raises:
            web.HTTPTooManyRequests: Too many of its address arrive.
            web.HTTPServiceUnavailable: Too many do.
        """
        address = self._clients.counted_as(request)
        if address and self._arriving[address] >= ARRIVING // 8:
            raise self._too_many(1)
        if self._arriving.total() >= ARRIVING:
            self._engine.metrics.count("posts_refused")
            raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"})
        self._arriving[address] += 1
        try:
            yield
        finally:
            self._arriving[address] -= 1
            if not self._arriving[address]:
                del self._arriving[address]

    def has_failed(self, request: web.Request) -> None:
        """A request was no post of a session."""
        address = self._clients.counted_as(request)
        if address:
            self._failing.take(address)

    def _too_many(self, wait_s: float) -> web.HTTPTooManyRequests:
        self._engine.metrics.count("posts_refused")
        after = str(max(1, math.ceil(wait_s)))
        return web.HTTPTooManyRequests(headers={hdrs.RETRY_AFTER: after})

    def discard(self, line: StreamLine) -> None:
        self._lines.pop(line.session, None)

    def new_session(self, request: web.Request) -> str:
        """A name for a stream that this request opens."""
        secret = secrets.token_urlsafe(24)
        mark = _mark(secret, request)
        return f"{secret}.{mark}.{_signature(secret, self._engine.node, mark)}"

    def knows_name(self, post: Post) -> bool:
        """Whether a post has the name of a stream, as its process signed it."""
        secret, mark, signature = _parts(post.session)
        expected = _signature(secret, post.node, mark)
        return hmac.compare_digest(signature.encode(), expected.encode())

    def is_same_browser(self, request: web.Request, post: Post) -> bool:
        """Whether a request has the cookie with which the stream was opened."""
        secret, mark, _ = _parts(post.session)
        return hmac.compare_digest(mark.encode(), _mark(secret, request).encode())

    async def take(self, post: Post) -> bool:
        """Bring a post where it belongs; whether that process is there.

        Raises:
            BrokerUnavailable: Redis did not take it.
        """
        if post.node == self._engine.node:
            self._deliver(post)
            return True
        draft = Draft(
            _channel_of(post.node), new_header("emulation"), msgspec.json.encode(post)
        )
        return await self._engine.hub.broker.notify(draft) > 0

    def offer(self, messages: list[Message]) -> None:
        for message in messages:
            try:
                post = _decoder.decode(message.raw)
            except (msgspec.MsgspecError, UnicodeError, RecursionError):
                self._engine.metrics.count("malformed_messages")
            else:
                self._deliver(post)

    def position_lost(self, channel: str) -> None:
        """Posts may be lost: their clients notice that no answer comes."""

    def _deliver(self, post: Post) -> None:
        # A stream that has just ended takes nothing more; its client learns that from it.
        line = self._lines.get(post.session)
        if line is None:
            return
        if post.has_moved:
            line.on_moved()
        else:
            line.post(post.data)


async def emulation(request: web.Request) -> web.StreamResponse:
    """Take a post: 204 taken, 404 no such process, 403 not this browser's, or not with its
    present session, 429 too many."""
    engine = request.config_dict[ENGINE]
    office: PostOffice = engine.part(PostOffice)
    gatekeeper: Gatekeeper = engine.part(Gatekeeper)
    gatekeeper.inspect(request)
    office.check_address(request)
    limit_bytes = engine.config.limits.live_command_bytes
    # The commands are a JSON text inside a JSON text: quotes are longer there.
    with office.arriving(request):
        body = await body_of(request, 2 * limit_bytes + _ENVELOPE_BYTES)
    try:
        post = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        office.has_failed(request)
        raise web.HTTPBadRequest(text="not a post\n") from None
    size_bytes = len(post.data.encode())
    if size_bytes > limit_bytes:
        raise web.HTTPRequestEntityTooLarge(max_size=limit_bytes, actual_size=size_bytes)
    if not office.knows_name(post):
        office.has_failed(request)
        engine.metrics.count("handshakes_refused")
        raise web.HTTPForbidden(text="this session is not yours\n")
    office.check_pace(post.session)
    is_same = office.is_same_browser(request, post)
    post = Post(post.session, post.node, post.data if is_same else "", not is_same)
    try:
        is_there = await office.take(post)
    except BrokerUnavailable as error:
        logger.warning("a post could not be brought on: %s", error)
        raise web.HTTPServiceUnavailable from None
    if not is_same:
        engine.metrics.count("handshakes_refused")
        raise web.HTTPForbidden(text="you have another session now; connect again\n")
    response = web.Response(status=204 if is_there else 404)
    allow_origin(request, response)
    return response


def _channel_of(node: str) -> str:
    return reserved_channel(f"node:{node}")


def _parts(session: str) -> tuple[str, str, str]:
    """Secret, mark and signature; empty where there is none."""
    secret, _, rest = session.partition(".")
    mark, _, signature = rest.partition(".")
    return secret, mark, signature


def _mark(secret: str, request: web.Request) -> str:
    """What a browser's session cookie looks like to who knows the secret."""
    cookie = session_key_of(request.cookies.get(settings.SESSION_COOKIE_NAME, ""))
    return salted_hmac(_SALT, f"{secret}\n{cookie}", algorithm="sha256").hexdigest()[:32]


def _signature(secret: str, node: str, mark: str) -> str:
    said = f"{secret}\n{node}\n{mark}"
    return salted_hmac(_SALT, said, algorithm="sha256").hexdigest()
