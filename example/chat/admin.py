"""Correspondences in the admin: what is saved here arrives on the pages as well."""

from __future__ import annotations

from django.contrib import admin

from .models import Correspondence, Message


@admin.register(Correspondence)
class CorrespondenceAdmin(admin.ModelAdmin):
    list_display = ["subject", "created_at"]
    exclude = ["channel"]
    filter_horizontal = ["participants"]


@admin.register(Message)
class MessageAdmin(admin.ModelAdmin):
    list_display = ["correspondence", "author", "sent_at"]
    list_select_related = ["correspondence", "author"]
    exclude = ["channel"]
