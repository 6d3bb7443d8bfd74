"""Pages that show a state and then follow it: `live_page`, `LivePageMixin`. And the views
that issue tickets: `ticket`, and `TicketView` for REST framework."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST

from .auth.issuing import TicketRefused, ticket_for
from .lazy import lazy
from .messages import Position
from .publishing.positions import positions

# The other view needs REST framework, which not every site has.
__getattr__ = lazy("redis_pubsub", {"TicketView": "contrib.rest_framework"})

ATTRIBUTE = "live_positions"
"""Where a request keeps the positions that were read for its page."""

View = Callable[..., Any]


def live_page(*channels: str) -> Callable[[View], View]:
    """Read where channels stand before the view's first query.

    The page gets the positions by ``{% live_script %}``, and the browser module begins
    there: what is published while the page is made is not missed. Put it directly above
    the view's name in ``urls.py``, or make it the outermost decorator: with
    ``ATOMIC_REQUESTS`` and REPEATABLE READ whatever queries before it (``login_required``
    does) makes the position newer than the data.

    Args:
        channels: Names; ``{pk}`` stands for the view's argument ``pk``.
    """

    def decorate(view: View) -> View:
        if inspect.iscoroutinefunction(view):

            @functools.wraps(view)
            async def page(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                await sync_to_async(remember)(request, _named(channels, kwargs))
                return await view(request, *args, **kwargs)

        else:

            @functools.wraps(view)
            def page(request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
                remember(request, _named(channels, kwargs))
                return view(request, *args, **kwargs)

        return page

    return decorate


class LivePageMixin:
    """`live_page` for class-based views; the first of the bases.

    Attributes:
        live_channels: Names; ``{pk}`` stands for the URL's argument ``pk``.
    """

    live_channels: Iterable[str] = ()

    def setup(self, request: HttpRequest, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)  # type: ignore[misc]
        remember(request, self.get_live_channels())

    def get_live_channels(self) -> list[str]:
        """The channels of this page. Must not query."""
        return _named(self.live_channels, self.kwargs)  # type: ignore[attr-defined]


def remember(request: HttpRequest, channels: Iterable[str]) -> dict[str, Position]:
    """Read where channels stand, and keep it with the request; what is known stays."""
    known: dict[str, Position] = getattr(request, ATTRIBUTE, {})
    asked = [channel for channel in channels if channel not in known]
    if asked:
        known = {**known, **positions(asked)}
        setattr(request, ATTRIBUTE, known)
    return known


def _named(channels: Iterable[str], kwargs: dict[str, Any]) -> list[str]:
    return [channel.format(**kwargs) for channel in channels]


@csrf_protect
@require_POST
def ticket(request: HttpRequest) -> HttpResponse:
    """Issue a ticket to whoever is logged in: ``{"ticket": "…", "expires_in": 30}``.

    ``POST`` only, with Django's CSRF token. It is good for pages of the origin that asked.
    Who is not logged in gets 403, and so does a page of a foreign origin; 503 while Redis
    does not answer.
    """
    try:
        issued = ticket_for(request, getattr(request, "user", None))
    except TicketRefused as refusal:
        return JsonResponse(
            {"detail": str(refusal)}, status=refusal.status, headers=refusal.headers
        )
    return JsonResponse(issued, headers={"Cache-Control": "no-store"})
