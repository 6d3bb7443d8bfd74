from __future__ import annotations

from redis_pubsub.web.stalls import Stalls


class Outlet:
    def __init__(self, unsent, taken=0):
        self.unsent, self.taken = unsent, taken

    def unsent_bytes(self):
        return self.unsent

    def taken_bytes(self):
        return self.taken


class Connection:
    def __init__(self, outlet):
        self.outlet = outlet


def look_twice(before, after):
    """Who is stalled 11 s after a first look, with a deadline of 10."""
    connection, stalled = Connection(before), []
    stalls = Stalls([connection], 10, stalled.append)
    stalls.look(100)
    connection.outlet = after
    stalls.look(111)
    return stalled


def test_a_client_that_takes_nothing_is_stalled():
    """Whatever was added meanwhile."""
    assert look_twice(Outlet(1_000), Outlet(1_000))
    assert look_twice(Outlet(1_000), Outlet(5_000))


def test_a_client_that_takes_something_is_not():
    """Less is unsent, or the kernel says that it was acknowledged, or all is sent."""
    assert not look_twice(Outlet(1_000), Outlet(999))
    assert not look_twice(Outlet(1_000), Outlet(5_000, taken=1))
    assert not look_twice(Outlet(1_000), Outlet(0))
    assert not look_twice(Outlet(0), Outlet(1_000))


def test_a_socket_that_is_not_open_yet_is_not_looked_at():
    """It has no outlet."""
    assert not look_twice(None, None)


def test_nobody_is_stalled_before_the_deadline():
    """Looks come more often than it."""
    connection, stalled = Connection(Outlet(1_000)), []
    stalls = Stalls([connection], 10, stalled.append)

    for now in (100, 105, 109):
        stalls.look(now)

    assert stalled == []
