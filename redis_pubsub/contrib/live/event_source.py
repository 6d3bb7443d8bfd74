"""``GET /events?channel=a&channel=b``: channels as plain server-sent events, for
``EventSource``, ``curl`` and programs without a client library.

A client chooses its channels when it connects, and is let in to all of them or to none.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence

from aiohttp import HttpVersion11, hdrs, web

from ...auth.authorize import HISTORY
from ...codes import Code, Disconnects, Errors
from ...exceptions import BrokerUnavailable
from ...web.admission import FULL_RETRY_S, Admission, Place
from ...web.connections import Connections
from ...web.handshake import INVALID_TOKEN, NO_TOKEN
from ...web.keys import ENGINE, PAGES
from .connecting import Refused, keep_watch, recognize
from .emulation import PostOffice
from .entering import Entering, Entry
from .eventstream import EventStream
from .expiries import CONNECTION
from .http import allow_origin, preflight
from .protocol.commands import ConnectRequest
from .protocol.events import EVENTS, EVENTS_UNCHUNKED, RETRY_S, retry_block
from .protocol.results import SubscribeResult
from .server import LiveServer
from .streams import HEADERS, StreamLine

logger = logging.getLogger("redis_pubsub.live")

EVENT_STREAM = "text/event-stream"
NO_CHANNEL = "name channels: /events?channel=news&channel=weather\n"
DENIED = "permission denied\n"


async def events(request: web.Request) -> web.StreamResponse:
    """Answer one request: a stream, a preflight, or the page that Django has here."""
    if (
        request.method == hdrs.METH_OPTIONS
        and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
    ):
        return await preflight(request, hdrs.METH_GET)
    if request.method != "GET" or "channel" not in request.query:
        pages = request.config_dict.get(PAGES)
        if pages is not None and pages.knows(request.path):
            return await pages.handle_request(request)
        if request.method != "GET":
            raise web.HTTPMethodNotAllowed(request.method, ("GET", "OPTIONS"))
        raise web.HTTPBadRequest(text=NO_CHANNEL)
    try:
        return await _admit(request)
    except (web.HTTPServiceUnavailable, web.HTTPTooManyRequests) as refusal:
        # An EventSource takes any other status for the end of all its attempts.
        if EVENT_STREAM not in request.headers.get(hdrs.ACCEPT, ""):
            raise
        return _later(request, refusal)


def _later(request: web.Request, refusal: web.HTTPException) -> web.Response:
    """A stream that is over at once, and says when to come back."""
    retry_s = float(refusal.headers.get(hdrs.RETRY_AFTER, 1)) + random.uniform(*RETRY_S)
    body = retry_block(retry_s, f"{refusal.status} {refusal.reason}")
    response = web.Response(body=body, headers=HEADERS)
    response.content_type, response.charset = EVENT_STREAM, "utf-8"
    response.force_close()
    allow_origin(request, response)
    return response


async def _admit(request: web.Request) -> web.StreamResponse:
    engine = request.config_dict[ENGINE]
    if engine.part(Connections).is_draining:
        raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"})
    server: LiveServer = engine.part(LiveServer)
    with engine.part(Admission).admit(request) as place:
        office: PostOffice = engine.part(PostOffice)
        try:
            # What it brings is for other streams; but it looks whose client has left.
            await office.open()
        except BrokerUnavailable:
            raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "1"}) from None
        stream, line = _stream(request, server, office, place)
        try:
            return await _serve(request, stream, line, office)
        except Refused as refusal:
            engine.metrics.count("live_refused")
            raise _answer(refusal.code, stream) from None
        finally:
            office.discard(line)
            stream.closed()


def _stream(
    request: web.Request, server: LiveServer, office: PostOffice, place: Place
) -> tuple[EventStream, StreamLine]:
    credentials = server.gatekeeper.inspect(request)
    transport = request.transport
    if transport is None:
        raise web.HTTPBadRequest
    form = EVENTS if request.version >= HttpVersion11 else EVENTS_UNCHUNKED
    limit_bytes = server.limits.send_buffer_bytes
    line = StreamLine(transport, form, limit_bytes, office.new_session(request))
    channels = list(dict.fromkeys(request.query.getall("channel")))
    return EventStream(server, line, credentials, place, channels), line


async def _serve(
    request: web.Request, stream: EventStream, line: StreamLine, office: PostOffice
) -> web.StreamResponse:
    server = stream.server
    # The site's coroutines are called in this task.
    server.engine.orm.adopt()
    entries = stream.wishes(_last_id(request), _replay(request, server))
    for entry in entries:
        wrong = stream.session.begin(entry.wish)
        if wrong is not None:
            raise Refused(wrong)
    changes, refreshes = server.changes, server.refreshes
    identity = await recognize(stream, ConnectRequest(), time.monotonic())
    with Entering(stream, entries) as entering:
        await entering.prepare()
        for entry in entries:
            refusal = entry.refusal or await _refusal_to_replay(stream, entry)
            if refusal is not None:
                raise Refused(refusal)
        response = await _begin(request, stream)
        if response is None:
            return web.Response(status=499)
        results = stream.session.ending or _admitted(entering, entries)
        if isinstance(results, Code):
            stream.end(results)
            return response
        stream.begin(entries, results)
    office.add(line)
    stream.connected()
    stream.expire(CONNECTION, identity.expires_at)
    keep_watch(stream, refreshes)
    if server.changes != changes and stream.user_id:
        # What was granted may have been taken back meanwhile.
        server.look_again(stream.user_id)
    await stream.entered(entries)
    while await line.next_post() is not None:
        # Nobody knows where to post: what wakes this is the end.
        pass
    return response


async def _refusal_to_replay(stream: EventStream, entry: Entry) -> Code | None:
    """Why a client may not be told what was said before, where it asks for that."""
    authorizer = stream.server.authorizer
    if not entry.replay or not authorizer.has_method:
        # Who may listen may.
        return None
    try:
        may = await authorizer.may(
            stream.user,
            entry.channel,
            HISTORY,
            is_subscribed=True,
            session_key=stream.credentials.session_key,
            connection=stream.id,
        )
    except Exception:
        stream.server.engine.metrics.count("auth_unavailable")
        logger.exception("who may read %r could not be looked up", entry.channel)
        return Errors.INTERNAL
    return None if may else Errors.PERMISSION_DENIED


async def _begin(request: web.Request, stream: EventStream) -> web.StreamResponse | None:
    """Send the head; ``None`` if the client has left.

    Raises:
        Refused: Somebody has ended the stream meanwhile.
    """
    response = web.StreamResponse(headers=HEADERS)
    response.content_type, response.charset = EVENT_STREAM, "utf-8"
    response.force_close()
    allow_origin(request, response)
    if stream.session.ending is not None:
        raise Refused(stream.session.ending)
    try:
        writer = await response.prepare(request)
    except ConnectionResetError:
        return None
    if writer is None or request.transport is None:
        return None
    writer.send_headers()
    stream.has_begun = True
    return response


def _admitted(entering: Entering, entries: Sequence[Entry]) -> list[SubscribeResult] | Code:
    """Every channel's result, or what is wrong with one. The stream is fed from here on,
    and has not been written to."""
    results = []
    for entry in entries:
        outcome = entering.admit(entry)
        if not isinstance(outcome, SubscribeResult):
            return Disconnects.INSUFFICIENT_STATE
        results.append(outcome)
    return results


def _last_id(request: web.Request) -> str:
    """Where the client was: by its own word, or by what the page's address says."""
    return request.headers.get("Last-Event-ID", "") or request.query.get("since", "")


def _replay(request: web.Request, server: LiveServer) -> int:
    wanted = request.query.get("replay", "0")
    if not (wanted.isascii() and wanted.isdigit() and len(wanted) < 10):
        raise web.HTTPBadRequest(text="replay is a number of messages\n")
    return min(int(wanted), server.limits.recovery_messages)


def _answer(code: Code, stream: EventStream) -> web.HTTPException:
    """What a refusal is in HTTP."""
    if code is Disconnects.CONNECTION_LIMIT or code is Errors.TOO_MANY_REQUESTS:
        return web.HTTPTooManyRequests(headers={hdrs.RETRY_AFTER: str(FULL_RETRY_S)})
    if code.temporary or 3000 <= code.code < 3500:
        return web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "2"})
    if code in (Errors.BAD_REQUEST, Errors.UNKNOWN_CHANNEL, Errors.LIMIT_EXCEEDED):
        return web.HTTPBadRequest(text=f"{code.reason}\n")
    if code is Errors.PERMISSION_DENIED or stream.standing is not None:
        return web.HTTPForbidden(text=DENIED)
    has_token = bool(stream.credentials.token)
    return web.HTTPForbidden(text=INVALID_TOKEN if has_token else NO_TOKEN)
