from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "tests.chaos.site"
    label = "chaos_site"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self):
        from . import sabotage

        sabotage.begin()
