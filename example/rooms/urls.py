"""The rooms' pages."""

from __future__ import annotations

from django.urls import path

from .views import room

urlpatterns = [path("room/<slug:name>/", room, name="room")]
