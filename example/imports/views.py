"""The page of an import: it begins one, and shows how far the last one is."""

from __future__ import annotations

import threading

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from ..chat.views import page
from .forms import ImportForm
from .work import begin
from .work import import_letters as work


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def import_letters(request: HttpRequest) -> HttpResponse:
    """Take letters and answer at once: the rest happens beside the request."""
    form = ImportForm(request.POST or None, user=request.user)
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        arguments = data["correspondence"], request.user, data["letters"]
        # A thread is enough for an example; it ends with its process.
        threading.Thread(target=work, args=(*arguments, begin(request.user))).start()
        return redirect("import")
    status = 400 if form.errors else 200
    return page(request, "imports/import.html", {"form": form}, status=status)
