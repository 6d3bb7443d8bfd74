"""Whose word about the client is taken."""

from __future__ import annotations

import pytest

from redis_pubsub.contrib.wsgi import TrustedProxies

PROXIES = TrustedProxies(("10.0.0.0/8", "2001:db8::/32", "unix"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        ("203.0.113.7", "6.6.6.6", "203.0.113.7"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7", "203.0.113.7"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.7, 10.0.0.2", "203.0.113.7"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.7:4711", "203.0.113.7"),
        ("10.0.0.1", "[2001:470::1]:4711", "2001:470::1"),
        ("10.0.0.1", "2001:470::1", "2001:470::1"),
        ("2001:db8::1", "203.0.113.7", "203.0.113.7"),
        ("::ffff:10.0.0.1", "203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "6.6.6.6", "203.0.113.7"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, unknown, 10.0.0.2", "10.0.0.2"),
        ("10.0.0.1", "6.6.6.6, <script>", "10.0.0.1"),
        ("", "203.0.113.7", "203.0.113.7"),
        ("", "", ""),
    ],
)
def test_the_right_most_untrusted_address_is_the_client(peer, forwarded_for, address):
    """Whatever a client writes itself stands further left."""
    headers = {"X-FORWARDED-FOR": forwarded_for} if forwarded_for else {}

    client = PROXIES.client(peer, headers)

    assert client.address == address


def test_the_chain_shown_begins_with_the_client():
    """Applications that take the first address get the right one."""
    headers = {"X-FORWARDED-FOR": "6.6.6.6, 203.0.113.7, 10.0.0.2"}

    client = PROXIES.client("10.0.0.1", headers)

    assert client.headers["X-FORWARDED-FOR"] == "203.0.113.7, 10.0.0.2"


@pytest.mark.parametrize(
    ("value", "scheme"),
    [
        ("https", "https"),
        ("HTTPS", "https"),
        ("wss", "https"),
        ("http", "http"),
        ("https, http", "http"),
        ("gopher", ""),
        ("", ""),
    ],
)
def test_the_nearest_proxy_tells_the_scheme(value, scheme):
    """A client's ``https`` to the left of the proxy's ``http`` secures nothing."""
    client = PROXIES.client("10.0.0.1", {"X-FORWARDED-PROTO": value})

    assert client.scheme == scheme
    assert client.headers["X-FORWARDED-PROTO"] == value.rpartition(",")[2].strip()


def test_a_stranger_has_no_forwarding_headers():
    """Nothing an untrusted peer says about itself is passed on."""
    client = PROXIES.client("203.0.113.7", {"X-FORWARDED-PROTO": "https", "FORWARDED": "x"})

    assert client.scheme == ""
    assert client.headers == {}


def test_unix_sockets_are_strangers_unless_listed():
    """The list without ``"unix"`` trusts no unix socket."""
    proxies = TrustedProxies(("10.0.0.0/8",))

    client = proxies.client("", {"X-FORWARDED-FOR": "203.0.113.7"})

    assert client.address == ""


def test_a_list_of_nonsense_is_refused():
    """A typing error in the settings stops the start."""
    with pytest.raises(ValueError, match="99"):
        TrustedProxies(("10.0.0.0/99",))
