"""The pages. Nothing here knows of sockets: saving is all it takes.

A live page reads its messages lazily, inside ``{% live %}`` of its template: after the
place in the channel from which it is followed. So nothing falls between the two.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Max, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from .authorization import TYPING
from .forms import CorrespondenceForm, MessageForm
from .models import LATEST, Correspondence, Message, name_of


@login_required
@require_safe
def inbox(request: HttpRequest) -> HttpResponse:
    """One's correspondences."""
    return page(request, "chat/inbox.html")


@login_required
@require_safe
def correspondence(request: HttpRequest, pk: int) -> HttpResponse:
    """The live page of one of them."""
    return _thread(request, _own_or_404(request, pk), MessageForm())


@login_required
@require_POST
def send_message(request: HttpRequest, pk: int) -> HttpResponse:
    """Take a message: JSON for the page's script, a redirect for a plain form."""
    correspondence = _own_or_404(request, pk)
    form = MessageForm(request.POST)
    wants_json = request.accepts("application/json") and not request.accepts("text/html")
    if not form.is_valid():
        if wants_json:
            return JsonResponse({"error": form.errors["body"][0]}, status=400)
        return _thread(request, correspondence, form, status=400)
    message = Message.objects.create(
        correspondence=correspondence, author=request.user, body=form.cleaned_data["body"]
    )
    if wants_json:
        return JsonResponse({"id": message.pk}, status=201)
    return redirect(correspondence)


@login_required
def new_correspondence(request: HttpRequest) -> HttpResponse:
    """Begin one; it shows up elsewhere with its first message."""
    form = CorrespondenceForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        return redirect(form.save())
    return page(request, "chat/new.html", {"form": form})


@login_required
@require_safe
def subscriptions(request: HttpRequest) -> HttpResponse:
    """What one is subscribed to, to be switched off and on, and what arrives on it."""
    active = request.user.subscriptions.filter(active=True)
    own = request.user.correspondences.select_related("channel").order_by("subject")
    return page(
        request,
        "chat/subscriptions.html",
        {"own": own, "active": set(active.values_list("channel_id", flat=True))},
    )


def _own_or_404(request: HttpRequest, pk: int) -> Correspondence:
    rows = Correspondence.objects.filter(participants=request.user)
    return get_object_or_404(
        rows.select_related("channel").prefetch_related("participants"), pk=pk
    )


def _thread(
    request: HttpRequest, row: Correspondence, form: MessageForm, status: int = 200
) -> HttpResponse:
    people = sorted((name_of(user), user.pk) for user in row.participants.all())
    context = {
        "correspondence": row,
        "typing_channel": f"{TYPING}{row.channel.name}",
        "people": [{"pk": pk, "name": name} for name, pk in people],
        # Newest first, and not evaluated here.
        "latest": row.messages.select_related("author").order_by("-pk")[:LATEST],
        "form": form,
    }
    return page(request, "chat/correspondence.html", context, status=status)


def page(
    request: HttpRequest,
    template: str,
    context: dict[str, Any] | None = None,
    status: int = 200,
) -> HttpResponse:
    """A page with the list of correspondences beside it."""
    context = {"correspondences": _summaries(request.user), **(context or {})}
    return render(request, template, context, status=status)


def _summaries(user: Any) -> QuerySet[Correspondence]:
    last = Message.objects.filter(correspondence=OuterRef("pk")).order_by("-pk")
    return (
        Correspondence.objects.filter(participants=user)
        .annotate(
            active_at=Coalesce(Max("messages__sent_at"), "created_at"),
            excerpt=Subquery(last.values("body")[:1]),
        )
        .order_by("-active_at", "-pk")
    )
