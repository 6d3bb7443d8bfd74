"""What uvicorn serves: a socket that joins the groups it names, and one page."""

import os
from urllib.parse import parse_qs

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.chaos.channels_site.settings")


class Rows(AsyncJsonWebsocketConsumer):
    async def connect(self):
        query = parse_qs(self.scope["query_string"].decode())
        self.groups = query["channels"][0].replace(":", ".").split(",")
        for group in self.groups:
            await self.channel_layer.group_add(group, self.channel_name)
        await self.accept()
        await self.send_json({"ready": True})

    async def row(self, event):
        await self.send_json(event)


urlpatterns = [path("", lambda request: HttpResponse("the home page"))]
application = ProtocolTypeRouter(
    {
        "http": get_asgi_application(),
        "websocket": URLRouter([path("ws/", Rows.as_asgi())]),
    }
)
