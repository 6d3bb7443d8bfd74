"""The app of the examples."""

from django.apps import AppConfig


class LettersConfig(AppConfig):
    name = "docs.snippets"
    label = "letters"
    default_auto_field = "django.db.models.BigAutoField"
