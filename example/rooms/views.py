"""A room's page. All that happens in it comes by its socket."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.views.decorators.http import require_safe

from ..chat.views import page
from .websockets import TEXT_MAX


@login_required
@require_safe
def room(request: HttpRequest, name: str) -> HttpResponse:
    """Any name is a room: it is there while somebody is in it."""
    context = {"room": name, "socket": f"/room/{name}/", "text_max": TEXT_MAX}
    return page(request, "rooms/room.html", context)
