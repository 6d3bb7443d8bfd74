"""Who opens a socket, decided before the upgrade: Origin, then token or session."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from aiohttp import hdrs, web
from django.conf import settings
from django.db import InterfaceError, OperationalError

from ..auth import Authenticator, AuthUnavailable, user_of_session
from ..auth.origin import is_origin_allowed, origin_of_page
from ..auth.session import has_sessions
from ..engine import Engine
from ..exceptions import PoolBusy
from ..proxies import TrustedProxies

if TYPE_CHECKING:
    from django.contrib.auth.models import AbstractBaseUser

logger = logging.getLogger("redis_pubsub.websockets")

NO_TOKEN = "no token in request"
INVALID_TOKEN = "invalid token"
QUERY_TOKEN = (
    "tokens in the query string end up in logs and are refused; send it in the "
    'Authorization header or as a subprotocol, or set REDIS_PUBSUB["token_in_query"]'
)
BEARER = "bearer"
_SCHEMES = ("bearer", "token", "jwt")


class Credentials(NamedTuple):
    """What a request brings along.

    Attributes:
        token: From the header, the subprotocol or the query; empty if there is none.
        session_key: From Django's session cookie; empty if there is none.
    """

    token: str
    session_key: str


class Gatekeeper:
    """Decides for one application's handlers."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._config = engine.config
        self._proxies = TrustedProxies(engine.config.trusted_proxies)
        self._authenticator = Authenticator(
            engine.config.tokenauth_method,
            engine.orm,
            waiting=engine.config.limits.db_waiting,
        )

    async def admit(
        self, request: web.Request, authenticate: bool
    ) -> AbstractBaseUser | None:
        """Let a handshake pass.

        Returns:
            The user, where one is asked for.

        Raises:
            web.HTTPForbidden: Foreign Origin, no token, or a bad one.
            web.HTTPServiceUnavailable: The database is down or too busy.
        """
        if not authenticate:
            self._check_origin(request, uses_cookie=False)
            return None
        credentials = self.inspect(request)
        try:
            user = await self.user_of(credentials)
        except AuthUnavailable:
            raise web.HTTPServiceUnavailable(
                text="try again later", headers={hdrs.RETRY_AFTER: "2"}
            ) from None
        if user is None:
            raise self._refused(INVALID_TOKEN if credentials.token else NO_TOKEN)
        return user

    def inspect(self, request: web.Request) -> Credentials:
        """What a request brings along, unchecked but for its Origin.

        Raises:
            web.HTTPForbidden: Foreign Origin, or a token in the query.
        """
        credentials = self._credentials(request)
        self._check_origin(request, uses_cookie=bool(credentials.session_key))
        return credentials

    async def user_of(self, credentials: Credentials) -> AbstractBaseUser | None:
        """The active user of a token or session, or ``None``.

        Raises:
            AuthUnavailable: The database is down or too busy.
        """
        try:
            if credentials.token:
                return await self._authenticator.user_of(credentials.token)
            if credentials.session_key:
                return await self._engine.orm.run(user_of_session, credentials.session_key)
        except (AuthUnavailable, OperationalError, InterfaceError, PoolBusy) as error:
            self._engine.metrics.count("auth_unavailable")
            logger.error("a token could not be checked", exc_info=error)
            raise AuthUnavailable("tokens cannot be checked now") from error
        return None

    def _credentials(self, request: web.Request) -> Credentials:
        token = _header_token(request) or _subprotocol_token(request)
        if not token and "token" in request.query:
            if not self._config.token_in_query:
                raise self._refused(QUERY_TOKEN)
            token = request.query["token"]
        session_key = ""
        if not token and has_sessions():
            session_key = request.cookies.get(settings.SESSION_COOKIE_NAME, "")
        return Credentials(token, session_key)

    def _check_origin(self, request: web.Request, uses_cookie: bool) -> None:
        origins = request.headers.getall(hdrs.ORIGIN, [])
        if not origins and not uses_cookie:
            return
        scheme, host = self._reached_as(request)
        if not origins:
            site = request.headers.get("Sec-Fetch-Site")
            referer = request.headers.get(hdrs.REFERER, "")
            page = origin_of_page(site, referer, f"{scheme}://{host}")
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
                'REDIS_PUBSUB["allowed_origins"] (this server is %s://%s)',
                origins[0][:200],
                scheme,
                host,
            )
            raise self._refused("this origin is not allowed")

    def _reached_as(self, request: web.Request) -> tuple[str, str]:
        """Scheme and host as the client knows them."""
        transport = request.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        forwarded = {
            name.upper(): value
            for name, value in request.headers.items()
            if TrustedProxies.is_forwarding_header(name.upper())
        }
        client = self._proxies.client(peer[0] if isinstance(peer, tuple) else "", forwarded)
        host = client.headers.get("X-FORWARDED-HOST", request.headers.get(hdrs.HOST, ""))
        return client.scheme or request.scheme, host

    def _refused(self, text: str) -> web.HTTPForbidden:
        self._engine.metrics.count("handshakes_refused")
        return web.HTTPForbidden(text=text)


def _header_token(request: web.Request) -> str:
    scheme, _, token = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
    return token.strip() if scheme.lower() in _SCHEMES else ""


def _subprotocol_token(request: web.Request) -> str:
    offered = [
        name.strip()
        for value in request.headers.getall(hdrs.SEC_WEBSOCKET_PROTOCOL, [])
        for name in value.split(",")
    ]
    if len(offered) >= 2 and offered[0].lower() == BEARER:
        return offered[1]
    return ""
