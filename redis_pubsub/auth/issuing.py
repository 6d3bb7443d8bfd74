"""Issuing a ticket in the answer to a request: what the two views have in common."""

from __future__ import annotations

import logging
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest

from ..conf import get_config
from ..exceptions import BrokerUnavailable, PubSubError
from . import tickets
from .origin import is_origin_allowed, origin_of_page

logger = logging.getLogger("redis_pubsub.auth")

_RETRY_S = 2


class TicketRefused(PubSubError):
    """A request gets no ticket; the text is for its client.

    Attributes:
        status: Of the answer.
        headers: Of the answer.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.headers = {"Cache-Control": "no-store"}
        if status == 503:
            self.headers["Retry-After"] = str(_RETRY_S)


def ticket_for(request: HttpRequest, user: Any, *, token: str = "") -> dict[str, Any]:
    """A ticket for a user, bound to the page that asked, and to the session or token by
    which he is known; blocking.

    Args:
        request: Its ``Origin`` decides; where a browser leaves that out, what it says
            instead.
        user: Who was found to be asking.
        token: By which; without one it was the session, where there is one.

    Returns:
        What the view answers with.

    Raises:
        TicketRefused: Nobody is logged in, the origin is foreign, or Redis is down.
    """
    page = _page(request)
    if user is None or not user.is_authenticated or not user.is_active:
        raise TicketRefused(403, "log in to get a ticket")
    try:
        session = "" if token else _session_key(request)
        ticket = tickets.issue(user, origin=page, session=session, token=token)
    except BrokerUnavailable as error:
        logger.error("no ticket could be issued: %s", error)
        raise TicketRefused(503, "try again later") from None
    return {"ticket": ticket, "expires_in": get_config().limits.ticket_s}


def _session_key(request: HttpRequest) -> str:
    return getattr(getattr(request, "session", None), "session_key", None) or ""


def _page(request: HttpRequest) -> str:
    """The origin of the page that asks, which has to be one that may open sockets.

    Raises:
        TicketRefused: It may not.
    """
    try:
        host = request.get_host()
    except DisallowedHost:
        raise TicketRefused(403, "this origin is not allowed") from None
    origin = request.headers.get("Origin")
    if origin is None:
        origin = origin_of_page(
            request.headers.get("Sec-Fetch-Site"),
            request.headers.get("Referer", ""),
            f"{request.scheme}://{host}",
        )
        if not origin:
            return ""
    is_allowed = is_origin_allowed(
        origin,
        scheme=request.scheme or "",
        host=host,
        hosts=settings.ALLOWED_HOSTS,
        origins=[*get_config().allowed_origins, *settings.CSRF_TRUSTED_ORIGINS],
    )
    if not is_allowed:
        logger.warning(
            "refused a ticket to a page on %r; if it is yours, add it to "
            'REDIS_PUBSUB["allowed_origins"]',
            origin[:200],
        )
        raise TicketRefused(403, "this origin is not allowed")
    return origin
