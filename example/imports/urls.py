"""The import's page."""

from __future__ import annotations

from django.urls import path

from .views import import_letters

urlpatterns = [path("import/", import_letters, name="import")]
