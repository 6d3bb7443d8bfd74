"""Version 1.0's import paths."""

import importlib

import pytest


@pytest.mark.parametrize(
    ("path", "home"),
    [
        ("redis_pubsub.util:ChannelReader", "redis_pubsub.readers.reader"),
        ("redis_pubsub.util:SubscriptionManager", "redis_pubsub.readers.manager"),
        ("redis_pubsub.util:redis_channel_publish", "redis_pubsub.publishing"),
        ("redis_pubsub.receivers:subscribable_changed", "redis_pubsub.publishing.signals"),
        ("redis_pubsub.contrib.websockets.util:_clean_route", None),
        ("redis_pubsub.contrib.websockets.util:websocket", None),
        ("redis_pubsub.managers:PublishableModelManager", None),
    ],
)
def test_an_old_path_leads_to_todays_name_with_a_note(path, home):
    """P: what 1.0's users import still imports; the note says the new path."""
    module, _, name = path.partition(":")

    with pytest.warns(DeprecationWarning, match="has moved: `from"):
        found = getattr(importlib.import_module(module), name)

    assert home is None or found.__module__ == home


def test_what_is_gone_says_what_to_use():
    """P21: there are no global connections any more."""
    util = importlib.import_module("redis_pubsub.util")

    with pytest.raises(AttributeError, match=r"redis_pubsub\.publish"):
        util.get_redis()
    with pytest.raises(AttributeError, match="no attribute"):
        util.something_else


def test_public_names_import_from_the_package():
    """What the README imports."""
    import redis_pubsub

    for name in redis_pubsub.__all__:
        assert getattr(redis_pubsub, name) is not None
    with pytest.raises(AttributeError):
        redis_pubsub.nothing


@pytest.mark.django_db(transaction=True)
def test_handle_auth_refuses_as_it_did(user):
    """1.0's helper: no token, a bad one, a good one."""
    from aiohttp.web import HTTPForbidden
    from rest_framework.authtoken.models import Token

    from redis_pubsub.contrib.websockets.util import handle_auth

    with pytest.raises(HTTPForbidden) as none:
        handle_auth(None)
    with pytest.raises(HTTPForbidden) as bad:
        handle_auth("junk")

    assert (none.value.text, bad.value.text) == ("no token in request", "invalid token")
    assert handle_auth(Token.objects.create(user=user).key) == user
