"""Signed tokens of this site's own: what goes in comes out, or nothing does."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from msgspec import json

from redis_pubsub.auth.tokens import (
    ExpiredToken,
    InvalidToken,
    connection_token,
    subscription_token,
    verify,
)

KEY = "a key that only these tests have"
ADA = User(pk=7)


@pytest.fixture(autouse=True)
def key(settings):
    settings.REDIS_PUBSUB = {"url": "memory://", "live": {"token_key": KEY}}


@pytest.mark.parametrize("info", [None, {"colour": "green"}, [], 0, ""])
def test_a_connection_token_says_who_it_is_for(info):
    """With whatever others are to be told, or without anything."""
    claims = verify(connection_token(ADA, info=info), KEY)

    assert (claims.sub, claims.channel) == ("7", "")
    told = bytes(claims.info)
    assert (json.decode(told) if told else None) == info


@pytest.mark.parametrize(("user", "sub"), [(ADA, "7"), (None, "")])
def test_a_subscription_token_names_its_channel(user, sub):
    """Of a user, or of a client that is nobody."""
    claims = verify(subscription_token(user, "room:1"), KEY)

    assert (claims.sub, claims.channel) == (sub, "room:1")


def test_a_token_whose_time_is_over_is_expired():
    with pytest.raises(ExpiredToken):
        verify(connection_token(ADA, ttl_s=-1), KEY)


def test_a_token_of_another_key_is_invalid():
    with pytest.raises(InvalidToken):
        verify(connection_token(ADA), "another key")
