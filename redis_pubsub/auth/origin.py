"""Which web pages may open a socket here.

A browser sends a site's cookies along with a socket that any page opens, and CORS does
not apply, so the ``Origin`` header decides.

Source: RFC 6455, section 10.2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import SplitResult, urlsplit

from django.http.request import validate_host

# `urlsplit` leaves white space out, and takes a backslash for part of a name.
_plain = re.compile(r"[!-\[\]-~]+")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


def is_origin_allowed(
    origin: str, *, scheme: str, host: str, hosts: Sequence[str], origins: Sequence[str]
) -> bool:
    """Whether a page of this origin may open a socket.

    Args:
        origin: The header's value.
        scheme: ``http`` or ``https``, as the client reached us.
        host: The ``Host`` header, with its port.
        hosts: ``ALLOWED_HOSTS``: a page on a name that only points here is not ours.
        origins: Further origins; ``https://*.example.com`` names all subdomains.
    """
    asked = _parse(origin)
    if asked is None:
        return False
    if any(_matches(asked, allowed) for allowed in origins):
        return True
    own = _parse(f"{scheme}://{host}")
    if own is None or _identity(asked) != _identity(own):
        return False
    return validate_host((own.hostname or "").rstrip("."), [*hosts] or _LOCAL)


def plain_origin(origin: str) -> str:
    """One spelling per origin, with its port; ``""`` for what is none."""
    parts = _parse(origin)
    return "" if parts is None else "{}://{}:{}".format(*_identity(parts))


def origin_of_page(site: str | None, referer: str, own: str) -> str:
    """Whose page a request without an ``Origin`` comes from.

    Browsers leave the header out of a GET to a page's own site, which server-sent events
    are; they say it otherwise, by headers that no page can set.

    Args:
        site: The ``Sec-Fetch-Site`` header; browsers send it over HTTPS and to localhost.
        referer: The ``Referer`` header; asked where there is no other.
        own: Our own origin.

    Returns:
        An origin to be checked; ``""`` where there is none to be had.

    Source: https://fetch.spec.whatwg.org/#origin-header,
    https://www.w3.org/TR/fetch-metadata/.
    """
    if site is not None:
        return own if site == "same-origin" else ""
    scheme, slashes, rest = referer.partition("://")
    return scheme + slashes + rest.partition("/")[0]


# What Django allows while ALLOWED_HOSTS is empty and DEBUG is on.
_LOCAL = [".localhost", "127.0.0.1", "[::1]", "::1"]


def _parse(origin: str) -> SplitResult | None:
    if not _plain.fullmatch(origin):
        return None
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError:
        return None
    is_bare = not (parts.path or parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in _DEFAULT_PORTS or not is_bare:
        return None
    if not parts.hostname or parts.hostname.startswith("."):
        return None
    return parts if port is None or port > 0 else None


def _identity(parts: SplitResult) -> tuple[str, str, int]:
    port = parts.port or _DEFAULT_PORTS[parts.scheme]
    return parts.scheme, parts.hostname or "", port


def _matches(asked: SplitResult, allowed: str) -> bool:
    if "://*." in allowed:
        pattern = _parse(allowed.replace("://*.", "://", 1))
        if pattern is None:
            return False
        scheme, name, port = _identity(asked)
        wanted_scheme, domain, wanted_port = _identity(pattern)
        return (scheme, port) == (wanted_scheme, wanted_port) and name.endswith(
            "." + domain
        )
    exact = _parse(allowed)
    return exact is not None and _identity(asked) == _identity(exact)
