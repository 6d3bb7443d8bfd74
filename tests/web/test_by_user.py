"""Who has which connections."""

from __future__ import annotations

from redis_pubsub.web.by_user import ByUser


def test_users_have_their_connections_and_leave_nothing_behind():
    """One, many, the same twice, one that was never there."""
    users = ByUser()
    first, second, third = "first", "second", "third"

    users.add("1", first)
    users.add("1", first)
    assert users.of("1") == [first]
    users.add("1", second)
    users.add("1", third)
    users.add("2", third)
    assert sorted(users.of("1")) == ["first", "second", "third"]
    assert list(users) == ["1", "2"] and "2" in users and "3" not in users

    users.discard("2", first)
    users.discard("3", first)
    assert users.of("2") == [third] and users.of("3") == []
    for each in (first, second, third):
        users.discard("1", each)
    users.discard("2", third)
    assert list(users) == []
