"""The page of an import: it asks for one, and shows how far the last one is."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.db.models import Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from redis_pubsub import send

from ..chat.models import Correspondence
from ..chat.views import page
from .forms import ImportForm


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def import_letters(request: HttpRequest) -> HttpResponse:
    """Take letters and answer at once: a worker does the rest."""
    form = ImportForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        begin(request.user, **form.cleaned_data)
        return redirect("import")
    status = 400 if form.errors else 200
    return page(request, "imports/import.html", {"form": form}, status=status)


def begin(user: Any, correspondence: Correspondence, letters: list[str]) -> None:
    """Ask a worker; see ``consumers.py``."""
    newest = correspondence.messages.aggregate(pk=Max("pk", default=0))["pk"]
    send(
        "import_letters",
        correspondence=correspondence.pk,
        author=user.pk,
        letters=letters,
        after=newest,
    )
