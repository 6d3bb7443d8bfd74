from django.core.management.base import BaseCommand

from tests.events.site.websockets import room


class Command(BaseCommand):
    help = "Tell every room something, or one connection."

    def add_arguments(self, parser):
        parser.add_argument("text")
        parser.add_argument("--client", default="")

    def handle(self, *args, **options):
        whom = {"client": options["client"]} if options["client"] else {"everywhere": True}
        room.emit("news", options["text"], strict=True, **whom)
