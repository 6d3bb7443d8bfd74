"""The Origin matrix: only exact or listed ones."""

import pytest

from redis_pubsub.auth.origin import is_origin_allowed, origin_of_page

OWN = {"scheme": "https", "host": "good.com", "hosts": ["good.com", "*"], "origins": []}


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://good.com", True),
        ("https://good.com:443", True),
        ("https://GOOD.com", True),
        ("", False),
        ("null", False),
        ("file://", False),
        ("http://good.com", False),
        ("https://good.com:8443", False),
        ("https://good.com.evil.com", False),
        ("https://evilgood.com", False),
        ("https://sub.good.com", False),
        ("https://good.com@evil.com", False),
        ("https://good.com\\\\@evil.com", False),
        ("https://go\tod.com", False),
        ("https://evil.com#good.com", False),
        ("https://good.com/", False),
        ("https://good.com.", False),
        ("https://gооd.com", False),
        ("https://[::1]", False),
        ("https://good.com:x", False),
        ("javascript://good.com", False),
    ],
)
def test_only_our_own_origin_is_ours(origin, expected):
    """Row 2: schemes, ports, look-alikes, user parts, trailing dots."""
    assert is_origin_allowed(origin, **OWN) is expected


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ("https://app.example", True),
        ("https://app.example:8443", False),
        ("https://a.trusted.example", True),
        ("https://a.b.trusted.example", True),
        ("https://trusted.example", False),
        ("https://eviltrusted.example", False),
        ("http://a.trusted.example", False),
        ("https://anything.example", False),
    ],
)
def test_listed_origins_are_exact_or_subdomains(origin, expected):
    """`https://*.trusted.example` names subdomains, by whole labels."""
    listed = ["https://app.example", "https://*.trusted.example", "*"]
    assert is_origin_allowed(origin, **(OWN | {"origins": listed})) is expected


def test_a_host_that_only_points_here_is_not_ours():
    """DNS rebinding: Host and Origin agree, and ALLOWED_HOSTS does not know them."""
    rebound = {"scheme": "http", "host": "evil.com:8000", "hosts": ["good.com"]}

    assert not is_origin_allowed("http://evil.com:8000", **rebound, origins=[])
    assert is_origin_allowed(
        "http://localhost:8000", scheme="http", host="localhost:8000", hosts=[], origins=[]
    )
    assert is_origin_allowed(
        "http://[::1]:8000", scheme="http", host="[::1]:8000", hosts=[], origins=[]
    )


@pytest.mark.parametrize(
    ("site", "referer", "expected"),
    [
        ("same-origin", "", "https://good.com"),
        ("same-site", "https://good.com/page", ""),
        ("cross-site", "https://good.com/page", ""),
        ("none", "https://good.com/page", ""),
        (None, "https://good.com/page?x=1", "https://good.com"),
        (None, "https://evil.com/https://good.com/", "https://evil.com"),
        (None, "", ""),
    ],
)
def test_a_browser_says_without_an_origin_whose_page_asks(site, referer, expected):
    """``Sec-Fetch-Site`` where there is one, else ``Referer``."""
    assert origin_of_page(site, referer, own="https://good.com") == expected
