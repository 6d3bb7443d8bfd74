# auth.py
from redis_pubsub.auth.authorize import HISTORY, PRESENCE, PUBLISH, SUBSCRIBE

ACTIONS = {
    "room": (SUBSCRIBE, HISTORY, PRESENCE),
    "typing": (SUBSCRIBE, PUBLISH),
}


def may(*, user, channel, action, token, connection):
    """An ``authorize_method``: True allows, False refuses, None leaves it open."""
    kind, _, number = channel.partition(":")
    if kind not in ACTIONS:
        return None
    if user is None or action not in ACTIONS[kind] or not number.isdecimal():
        return False
    return user.rooms.filter(pk=number).exists()
