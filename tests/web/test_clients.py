from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from redis_pubsub.proxies import TrustedProxies
from redis_pubsub.web.clients import Clients


class Line:
    """A transport with somebody at the other end."""

    def __init__(self, peer):
        self.peer = peer

    def get_extra_info(self, name, default=None):
        return self.peer if name == "peername" else default


def counted_as(peer, *forwarded, trusted=("127.0.0.0/8", "::1", "unix")):
    headers = [("X-Forwarded-For", each) for each in forwarded]
    request = make_mocked_request("GET", "/", headers=headers, transport=Line(peer))
    return Clients(TrustedProxies(trusted)).counted_as(request)


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted"),
    [
        (("203.0.113.5", 1), (), "203.0.113.5"),
        (("203.0.113.5", 1), ("6.6.6.6",), "203.0.113.5"),
        (("127.0.0.1", 1), ("203.0.113.5",), "203.0.113.5"),
        (("127.0.0.1", 1), ("6.6.6.6, 203.0.113.5",), "203.0.113.5"),
        (("127.0.0.1", 1), ("6.6.6.6", "203.0.113.5"), "203.0.113.5"),
        ("", ("203.0.113.5",), "203.0.113.5"),
        (("::ffff:203.0.113.5", 1, 0, 0), (), "203.0.113.5"),
    ],
)
def test_a_client_is_counted_under_the_address_that_can_be_believed(
    peer, forwarded, counted
):
    """What it claims itself gives it no other."""
    assert counted_as(peer, *forwarded) == counted


def test_all_addresses_of_an_ipv6_network_count_as_one():
    """A customer has 2^64 of them for nothing."""
    one, other = counted_as(("2001:db8::1", 1)), counted_as(("2001:db8:0:0:f::9", 1))
    elsewhere = counted_as(("2001:db8:0:1::1", 1))

    assert one == other == "2001:db8::/64"
    assert elsewhere != one


@pytest.mark.parametrize("peer", [("127.0.0.1", 1), ("::1", 1, 0, 0), ""])
def test_a_trusted_proxy_that_names_nobody_has_no_limit_of_an_address(peer):
    """It may bring everybody: one client must not lock out all."""
    assert counted_as(peer) == ""
