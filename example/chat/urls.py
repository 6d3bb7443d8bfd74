"""The chat's pages."""

from __future__ import annotations

from django.urls import path

from . import views

urlpatterns = [
    path("", views.inbox, name="inbox"),
    path("correspondences/new/", views.new_correspondence, name="new_correspondence"),
    path("correspondences/<int:pk>/", views.correspondence, name="correspondence"),
    path("correspondences/<int:pk>/messages/", views.send_message, name="send_message"),
    path("subscriptions/", views.subscriptions, name="subscriptions"),
]
