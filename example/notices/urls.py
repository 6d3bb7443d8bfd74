"""The notices' page."""

from __future__ import annotations

from django.urls import path

from .views import notices

urlpatterns = [path("notices/", notices, name="notices")]
