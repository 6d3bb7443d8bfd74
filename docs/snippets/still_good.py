# keys.py
from redis_pubsub.auth import authtoken_method


def key_method(key):
    """REST framework's tokens under another name."""
    return authtoken_method(key)


def _still_good(keys):
    """Of these keys, those that were not taken back."""
    from rest_framework.authtoken.models import Token

    return Token.objects.filter(key__in=keys).values_list("key", flat=True)


key_method.still_good = _still_good
