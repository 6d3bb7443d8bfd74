"""The page from which those who may use the admin send notices."""

from __future__ import annotations

from django.contrib.admin.views.decorators import staff_member_required
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.views.decorators.http import require_http_methods

from ..chat.views import page
from .forms import NoticeForm


@login_required
@staff_member_required(login_url="login")
@require_http_methods(["GET", "HEAD", "POST"])
def notices(request: HttpRequest) -> HttpResponse:
    """Send one."""
    form = NoticeForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.send()
        return redirect("notices")
    status = 400 if form.errors else 200
    return page(request, "notices/send.html", {"form": form}, status=status)
