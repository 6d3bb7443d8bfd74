"""Who opens a socket, decided before the upgrade: Origin, then ticket, token or session."""

from __future__ import annotations

import logging
import re
import time
from typing import NamedTuple

from aiohttp import hdrs, web
from django.conf import settings
from django.db import InterfaceError, OperationalError

from ..auth import Authenticator, AuthUnavailable, Standing, user_of_session
from ..auth.origin import is_origin_allowed, origin_of_page
from ..auth.session import has_sessions, session_key_of
from ..auth.standing import digest_of
from ..auth.tickets import is_ticket, redeem
from ..auth.tokens import TOKEN_MAX, expiry_of
from ..engine import Engine
from ..exceptions import BrokerUnavailable, PoolBusy, PubSubError
from ..proxies import Client, TrustedProxies
from .buckets import Buckets
from .clients import Clients, network_of

logger = logging.getLogger("redis_pubsub.websockets")

NO_TOKEN = "no token in request"
INVALID_TOKEN = "invalid token"
QUERY_TOKEN = (
    "tokens in the query string end up in logs and are refused; send it in the "
    'Authorization header or as a subprotocol, or set REDIS_PUBSUB["token_in_query"]'
)
NO_PROTOCOL = "the subprotocol after bearer is not a token"
BEARER = "bearer"
_SCHEMES = ("bearer", "token", "jwt")
# What a subprotocol is made of: RFC 9110, section 5.6.2.
_protocol = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_TICKETS_SHARE = 0.1
"""Of a bad token: client libraries come back with the ticket that they have used, and
nobody guesses one."""


class TooManyFailures(PubSubError):
    """An address has brought so many bad tokens that none of its tokens is looked at now.

    Attributes:
        retry_s: Seconds until one is.
    """

    def __init__(self, retry_s: float) -> None:
        super().__init__("too many bad tokens from this address")
        self.retry_s = retry_s


class Credentials(NamedTuple):
    """What a request brings along.

    Attributes:
        token: From the header, the subprotocol or the query; empty if there is none.
        session_key: From Django's session cookie; empty if there is none.
        origin: Of the page that asks; empty where none does.
        address: Of the client; empty where it is not known.
    """

    token: str
    session_key: str
    origin: str = ""
    address: str = ""


class Gatekeeper:
    """Decides for one application's handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._config = engine.config
        self._clients = Clients(TrustedProxies(engine.config.trusted_proxies))
        self._authenticator = Authenticator(
            engine.config.tokenauth_method,
            engine.orm,
            waiting=engine.config.limits.db_waiting,
        )
        per_minute = engine.config.limits.auth_failures
        self._failures = Buckets(per_minute, per_minute / 60)

    async def admit(self, request: web.Request, authenticate: bool) -> Standing | None:
        """Let a handshake pass.

        Returns:
            Who it is, where that is asked for.

        Raises:
            web.HTTPForbidden: Foreign Origin, no token, or a bad one.
            web.HTTPTooManyRequests: Too many bad tokens came from this address.
            web.HTTPServiceUnavailable: The database is down or too busy.
        """
        if not authenticate:
            client = self._clients.of(request)
            self._check_origin(request, uses_cookie=False, client=client)
            return None
        credentials = self.inspect(request)
        try:
            standing = await self.standing_of(credentials)
        except AuthUnavailable:
            raise web.HTTPServiceUnavailable(
                text="try again later", headers={hdrs.RETRY_AFTER: "2"}
            ) from None
        except TooManyFailures as error:
            raise web.HTTPTooManyRequests(
                text=str(error), headers={hdrs.RETRY_AFTER: str(int(error.retry_s) + 1)}
            ) from None
        if standing is None:
            raise self._refused(INVALID_TOKEN if credentials.token else NO_TOKEN)
        return standing

    def inspect(self, request: web.BaseRequest) -> Credentials:
        """What a request brings along, unchecked but for its Origin.

        Raises:
            web.HTTPBadRequest: Something else than a token in a token's place.
            web.HTTPForbidden: Foreign Origin, or a token in the query.
        """
        token = self._token(request)
        session_key = ""
        if not token and has_sessions():
            cookie = request.cookies.get(settings.SESSION_COOKIE_NAME, "")
            session_key = session_key_of(cookie)
        client = self._clients.of(request)
        page = self._check_origin(request, uses_cookie=bool(session_key), client=client)
        address = self._clients.known_address(client)
        return Credentials(token, session_key, page, address)

    async def standing_of(self, credentials: Credentials) -> Standing | None:
        """The active user of a ticket, token or session, and until when; or ``None``.

        Raises:
            AuthUnavailable: The database, or for a ticket Redis, is down or too busy.
            TooManyFailures: Of a token, if this address has brought too many bad ones.
        """
        token = credentials.token
        if token:
            self.refuse_guesser(credentials.address)
        try:
            if is_ticket(token):
                standing = await self._standing_of_ticket(credentials)
            elif token:
                standing = await self._authenticator.standing_of(token)
            elif credentials.session_key:
                return await self._standing_of_session(credentials.session_key)
            else:
                return None
        except (
            AuthUnavailable,
            BrokerUnavailable,
            OperationalError,
            InterfaceError,
            PoolBusy,
        ) as error:
            self._engine.metrics.count("auth_unavailable")
            logger.error("a token could not be checked", exc_info=error)
            raise AuthUnavailable("tokens cannot be checked now") from error
        if standing is None:
            self._failed(credentials)
        return standing

    def refuse_guesser(self, address: str) -> None:
        """Refuse to look at another token of an address that guesses.

        Whether it would be good is not looked at either: else guessing went on. What
        several do at once may all pass; each of them is counted.

        Raises:
            TooManyFailures: It has brought too many bad ones.
        """
        wait_s = self._failures.wait_s(network_of(address))
        if wait_s > 0:
            self._engine.metrics.count("auth_limited")
            raise TooManyFailures(wait_s)

    def _failed(self, credentials: Credentials) -> None:
        if 0 < expiry_of(credentials.token) <= time.time():
            # By its own word it is over: a client that comes back, and nobody's guess.
            return
        self._engine.metrics.count("auth_failures")
        if credentials.address:
            share = _TICKETS_SHARE if is_ticket(credentials.token) else 1
            self._failures.take(network_of(credentials.address), share)

    async def _standing_of_session(self, key: str) -> Standing | None:
        user = await self._engine.orm.run(user_of_session, key)
        if user is None:
            return None
        return Standing(user, session_key=key, digest=digest_of(key))

    async def _standing_of_ticket(self, credentials: Credentials) -> Standing | None:
        redeemed = await redeem(
            credentials.token,
            credentials.origin,
            take=self._engine.hub.broker.take,
            orm=self._engine.orm,
            ttl_s=self._config.limits.ticket_s,
        )
        if redeemed is None:
            return None
        digest = redeemed.digest or digest_of(credentials.token)
        return Standing(redeemed.user, digest=digest, seal=redeemed.seal)

    def _token(self, request: web.BaseRequest) -> str:
        token = _header_token(request) or _subprotocol_token(request)
        if token:
            return token
        ticket = request.query.get("ticket", "")
        if is_ticket(ticket):
            return ticket
        if "token" in request.query:
            if not self._config.token_in_query:
                raise self._refused(QUERY_TOKEN)
            return request.query["token"]
        return ""

    def _check_origin(
        self, request: web.BaseRequest, *, uses_cookie: bool, client: Client
    ) -> str:
        """The origin of the page that asks, if it may; ``""`` if no page does."""
        origins = request.headers.getall(hdrs.ORIGIN, [])
        scheme = client.scheme or request.scheme
        host = client.headers.get("X-FORWARDED-HOST", request.headers.get(hdrs.HOST, ""))
        if not origins:
            site = request.headers.get("Sec-Fetch-Site")
            referer = request.headers.get(hdrs.REFERER, "")
            page = origin_of_page(site, referer, f"{scheme}://{host}")
            if not uses_cookie:
                return page
            if not page:
                raise self._refused("a session needs an Origin header")
            origins = [page]
        is_allowed = len(origins) == 1 and is_origin_allowed(
            origins[0],
            scheme=scheme,
            host=host,
            hosts=settings.ALLOWED_HOSTS,
            origins=[*self._config.allowed_origins, *settings.CSRF_TRUSTED_ORIGINS],
        )
        if not is_allowed:
            logger.warning(
                "refused a socket of a page on %r; if it is yours, add it to "
                'REDIS_PUBSUB["allowed_origins"] (this server is %r)',
                origins[0][:200],
                f"{scheme}://{host}"[:300],
            )
            raise self._refused("this origin is not allowed")
        return origins[0]

    def _refused(self, text: str) -> web.HTTPForbidden:
        self._engine.metrics.count("handshakes_refused")
        return web.HTTPForbidden(text=text)


def _header_token(request: web.BaseRequest) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() in _SCHEMES else ""


def _subprotocol_token(request: web.BaseRequest) -> str:
    """The token beside the subprotocol ``bearer``.

    Raises:
        web.HTTPBadRequest: What stands there is no subprotocol, or too long for a token.
    """
    offered = [
        name.strip()
        for value in request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
        for name in value.split(",")
    ]
    if len(offered) < 2 or offered[0].lower() != BEARER:
        return ""
    if len(offered[1]) > TOKEN_MAX or not _protocol.fullmatch(offered[1]):
        raise web.HTTPBadRequest(text=NO_PROTOCOL)
    return offered[1]
