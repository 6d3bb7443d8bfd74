"""The way up for streams: posts, which may reach any process, brought to the one that has
the stream."""

from __future__ import annotations

import hmac
import logging
import secrets
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web
from django.conf import settings
from django.utils.crypto import salted_hmac

from ...engine import Engine
from ...exceptions import BrokerUnavailable
from ...messages import Draft, Message, new_header, reserved_channel
from ...web.handshake import Gatekeeper
from ...web.keys import ENGINE
from .http import allow_origin, body_of

if TYPE_CHECKING:
    from .streams import StreamLine

logger = logging.getLogger("redis_pubsub.live")

_ENVELOPE_BYTES = 1_024
"""What a post may have besides its commands."""
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
            except msgspec.MsgspecError:
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
    present session."""
    engine = request.config_dict[ENGINE]
    office: PostOffice = engine.part(PostOffice)
    gatekeeper: Gatekeeper = engine.part(Gatekeeper)
    gatekeeper.inspect(request)
    limit_bytes = engine.config.limits.live_command_bytes
    # The commands are a JSON text inside a JSON text: quotes are longer there.
    body = await body_of(request, 2 * limit_bytes + _ENVELOPE_BYTES)
    try:
        post = _decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        raise web.HTTPBadRequest(text="not a post\n") from None
    size_bytes = len(post.data.encode())
    if size_bytes > limit_bytes:
        raise web.HTTPRequestEntityTooLarge(max_size=limit_bytes, actual_size=size_bytes)
    if not office.knows_name(post):
        engine.metrics.count("handshakes_refused")
        raise web.HTTPForbidden(text="this session is not yours\n")
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
    cookie = request.cookies.get(settings.SESSION_COOKIE_NAME, "")
    return salted_hmac(_SALT, f"{secret}\n{cookie}", algorithm="sha256").hexdigest()[:32]


def _signature(secret: str, node: str, mark: str) -> str:
    said = f"{secret}\n{node}\n{mark}"
    return salted_hmac(_SALT, said, algorithm="sha256").hexdigest()
