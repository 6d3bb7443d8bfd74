"""Where Redis is: what redis-py reads of a URL, and Sentinel's, which it does not read.

``redis+sentinel://user:password@host:26379,host:26379/master/0`` names sentinels and the
master they watch; ``rediss+sentinel://`` speaks TLS with both. User, password, database and
redis-py's query options are those of Redis itself. ``sentinel_username`` and
``sentinel_password`` are those of the sentinels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

SENTINEL = ("redis+sentinel://", "rediss+sentinel://")
SENTINEL_PORT = 26379
_PORT_MAX = 65_535
_OF_SENTINELS = ("sentinel_username", "sentinel_password")


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """What a URL of Sentinel's says.

    Attributes:
        sentinels: Host and port of each.
        service: Name under which they know the master.
        url: The rest, as a URL that redis-py reads; its host means nothing.
        login: Arguments for connections to the sentinels.
    """

    sentinels: tuple[tuple[str, int], ...]
    service: str
    url: str
    login: dict[str, Any]


def is_sentinel(url: str) -> bool:
    """Whether a URL names sentinels."""
    return url.startswith(SENTINEL)


def sentinel_address(url: str) -> SentinelAddress:
    """Read a URL for which `is_sentinel` holds.

    Raises:
        ValueError: It cannot be read. The text does not repeat it: it may hold a password.
    """
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    service, _, database = parts.path.strip("/").partition("/")
    if not service:
        raise ValueError("it must name the master after the sentinels: /mymaster")
    if database and not database.isdecimal():
        raise ValueError("what follows the master's name must be a database's number")
    options = parse_qsl(parts.query, keep_blank_values=True)
    rest = urlencode([(key, value) for key, value in options if key not in _OF_SENTINELS])
    scheme = parts.scheme.partition("+")[0]
    arguments: dict[str, Any] = {
        key.removeprefix("sentinel_"): value
        for key, value in options
        if key in _OF_SENTINELS and value
    }
    if scheme == "rediss":
        arguments |= {"ssl": True, **{k: v for k, v in options if k.startswith("ssl_")}}
    return SentinelAddress(
        sentinels=tuple(_sentinel(host) for host in hosts.split(",")),
        service=unquote(service),
        url=f"{scheme}://{login}{at}sentinel/{database or 0}?{rest}",
        login=arguments,
    )


def _sentinel(text: str) -> tuple[str, int]:
    """Host and port; an IPv6 address stands in brackets."""
    host, colon, port = text.strip().rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text.strip(), str(SENTINEL_PORT)
    if not host or (":" in host and not host.startswith("[")):
        raise ValueError("it must name sentinels as host:port,host:port")
    if not port.isdecimal() or not 0 < int(port) <= _PORT_MAX:
        raise ValueError("a sentinel has no possible port")
    return host.strip("[]"), int(port)
