from django.http import JsonResponse

from redis_pubsub import last, personal_channels, publish_to
from redis_pubsub.auth import PersonalChannels
from redis_pubsub.contrib.websockets import websocket_pubsub


def announce(text):
    """Everybody who is connected now, and who comes within the hour."""
    publish_to({"text": text}, broadcast=True, event="announcement", expire_s=3600)


def assign(ticket, assignee):
    """One user, wherever he is logged in, and the people of one group."""
    payload = {"ticket": ticket.pk, "assignee": assignee.get_username()}
    publish_to(payload, users=[assignee], groups=["dispatchers"], event="assigned")


def cart(request):
    """The tabs of one browser, logged in or not."""
    if not request.session.session_key:
        request.session.create()
    publish_to({"items": 3}, sessions=[request.session], event="cart")
    return JsonResponse({"items": 3})


def announcement(request):
    """What was said last to whoever asks: to his session, to him, his groups, to all."""
    channels = personal_channels(request.user, request.session.session_key)
    message = last(*channels)
    return JsonResponse(message.payload if message else {})


@websocket_pubsub("/bell/", authenticate=True)
async def bell(ws, params, manager, user):
    """A handler that hears what each live connection hears."""
    await manager.forward_personal_channels(ws, user)
    async for _ in ws:
        pass


class TeamChannels(PersonalChannels):
    """Each connection also hears its user's language."""

    def channels(self, user, session_key):
        channels = super().channels(user, session_key)
        return [*channels, "lang:de"] if user is not None else channels
