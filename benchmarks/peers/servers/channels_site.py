"""Django Channels with channels_redis' pub/sub layer: settings, consumer and application.

``uvicorn benchmarks.peers.servers.channels_site:application``, or daphne. Written as their
documentation has it (an ``AsyncWebsocketConsumer`` with groups). With a token in the URL
the user is looked up as most sites do it: a middleware that reads REST framework's token
in a database thread, or, where it has three parts, checks a simplejwt token, which asks
no database.
"""

import os
from urllib.parse import parse_qs

from django.conf import settings

_LAYER = "channels_redis.pubsub.RedisPubSubChannelLayer"

if not settings.configured:
    settings.configure(
        SECRET_KEY="not a secret, only for benchmarks, and long enough for HS256",
        ALLOWED_HOSTS=["127.0.0.1"],
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "rest_framework",
            "rest_framework.authtoken",
            "channels",
        ],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": os.environ.get("BENCHMARK_DATABASE", ":memory:"),
                "OPTIONS": {"timeout": 20},
                "CONN_MAX_AGE": None,
            }
        },
        CHANNEL_LAYERS={
            "default": {"BACKEND": _LAYER, "CONFIG": {"hosts": [os.environ["REDIS_URL"]]}}
        },
    )

import django  # noqa: E402

django.setup()

from channels.db import database_sync_to_async  # noqa: E402
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter  # noqa: E402
from django.contrib.auth.models import AnonymousUser  # noqa: E402


@database_sync_to_async
def user_of(key):
    """The user of a REST framework token."""
    from rest_framework.authtoken.models import Token

    try:
        return Token.objects.select_related("user").get(key=key).user
    except Token.DoesNotExist:
        return AnonymousUser()


def stateless_user_of(token):
    """The user of a JSON web token, without a query."""
    from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication

    backend = JWTStatelessUserAuthentication()
    return backend.get_user(backend.get_validated_token(token))


class TokenMiddleware:
    """Puts the user of ``?token=…`` into the scope."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        query = parse_qs(scope["query_string"].decode())
        token = query.get("token", [""])[0]
        if token.count(".") == 2:
            user = stateless_user_of(token)
        else:
            user = await user_of(token) if token else AnonymousUser()
        scope = dict(scope, user=user, channels=query["channels"][0].split(","))
        scope["needs_user"] = "token" in query
        return await self.app(scope, receive, send)


class Listener(AsyncWebsocketConsumer):
    """Joins the groups that its URL names, and forwards what is sent to them."""

    async def connect(self):
        if self.scope["needs_user"] and not self.scope["user"].is_authenticated:
            await self.close()
            return
        for name in self.scope["channels"]:
            await self.channel_layer.group_add(name, self.channel_name)
        await self.accept()
        await self.send(text_data='"ready"')

    async def disconnect(self, code):
        for name in self.scope["channels"]:
            await self.channel_layer.group_discard(name, self.channel_name)

    async def news_message(self, event):
        await self.send(text_data=event["text"])


application = ProtocolTypeRouter({"websocket": TokenMiddleware(Listener.as_asgi())})
