"""Whom a channel is for: names that never collide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redis_pubsub.addresses import (
    BROADCAST,
    GROUP,
    SESSION,
    USER,
    Address,
    address_of,
    broadcast_channel,
    group_channel,
    personal_channel,
    session_channel,
)

whose = st.text(min_size=1, max_size=20)


@given(
    kind=st.sampled_from([USER, SESSION, GROUP]), whose=whose, topic=st.text(max_size=20)
)
def test_every_address_has_a_name_of_its_own(kind, whose, topic):
    """W-9: what a name says is exactly the address it was made of."""
    address = Address(kind, whose, topic)

    assert address_of(address.channel) == address


def test_a_separator_in_a_name_moves_nothing():
    """W-9: user `a:b` about `c` and user `a` about `b:c` are two channels."""
    assert personal_channel("a:b", "c") != personal_channel("a", "b:c")
    assert personal_channel("a:b") != personal_channel("a", "b")
    assert broadcast_channel("x") == "broadcast:x"
    assert address_of("broadcast:x") == Address(BROADCAST, "", "x")


@pytest.mark.parametrize(
    "name", ["user:%37", "user:7:", "user:", "session", "room:1", "user"]
)
def test_another_spelling_is_nobodys(name):
    """One address, one name: an escape that need not be is somebody's attempt."""
    assert address_of(name) is None


def test_a_sessions_key_is_not_in_its_channel():
    """Names of channels are seen by clients and logs; the key opens the session."""
    assert "s3cr3t" not in session_channel("s3cr3t")
    assert session_channel("a") != session_channel("b")
    assert group_channel("a") == "group:a"
