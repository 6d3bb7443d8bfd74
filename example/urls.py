"""The example's pages. Its sockets are in ``chat/websockets.py``."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.views import LoginView, LogoutView
from django.contrib.staticfiles.urls import staticfiles_urlpatterns
from django.urls import include, path

urlpatterns = [
    path("login/", LoginView.as_view(redirect_authenticated_user=True), name="login"),
    path("logout/", LogoutView.as_view(), name="logout"),
    path("admin/", admin.site.urls),
    path("", include("example.chat.urls")),
    path("", include("example.imports.urls")),
    path("", include("example.notices.urls")),
    path("", include("example.rooms.urls")),
    # Only in DEBUG; there it also works under gunicorn, which has no static files.
    *staticfiles_urlpatterns(),
]
