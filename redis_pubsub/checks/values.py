"""Values of the right kind that cannot be meant: bounds, choices, addresses, origins."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from django.core.checks import CheckMessage

from ..auth.origin import is_origin_allowed
from ..broker import MEMORY
from ..broker.addresses import is_sentinel, sentinel_address
from ..conf import ADDRESS_KEYS, URL_SCHEMES
from ..options import HealthOptions
from ..proxies import TrustedProxies
from .report import at, error, listed
from .shape import Sound

PORT_MAX = 65_535
_LEAST_AT_TOP = {
    "db": 0,
    "db_threads": 1,
    "drain_s": 0,
    "port": 0,
    "reconnect_spread_s": 0,
}
_LIMITS_MAY_BE_ZERO = ("handler_grace_s", "recheck_s", "stop_s")
_WHO = ("", "authenticated", "anyone")
_CHOICES = {
    "subscribe": _WHO,
    "publish": _WHO,
    "slow": ("disconnect", "latest", "drop"),
    "presence_by": ("client", "user"),
}
_URL_EXAMPLE = (
    'Write for example "redis://localhost:6379/0", "rediss://user:password@host:6379/0", '
    '"redis+sentinel://host:26379,host:26379/mymaster", "unix:///run/redis.sock?db=0" or '
    '"memory://".'
)


def check_values(sound: Sound) -> Iterator[CheckMessage]:
    """Everything that a value alone can tell."""
    yield from _top_bounds(sound)
    yield from _limit_bounds(sound)
    if sound.receipts.get("keep_days", 0) < 0:
        yield _too_small(0, "receipts", "keep_days")
    for pattern, options in sound.channels.items():
        yield from _channel(pattern, options)
    yield from _health(sound)
    yield from _broker(sound)
    for origin in sound.texts("allowed_origins"):
        yield from _origin(origin)
    for network in sound.texts("trusted_proxies"):
        yield from _proxy(network)


def workers_asked() -> int:
    """How many worker processes the environment asks gunicorn for."""
    try:
        return int(os.environ.get("WEB_CONCURRENCY", "1"))
    except ValueError:
        return 1  # Gunicorn refuses it, with its own words.


def _top_bounds(sound: Sound) -> Iterator[CheckMessage]:
    for key, least in _LEAST_AT_TOP.items():
        if sound.top.get(key, least) < least:
            yield _too_small(least, key)
    if sound.top.get("port", 0) > PORT_MAX:
        yield error(
            "E004",
            f"{at('port')} must be at most {PORT_MAX}.",
            "Write the port to listen on; 0 takes a free one.",
        )


def _limit_bounds(sound: Sound) -> Iterator[CheckMessage]:
    for section, values in (("limits", sound.limits), ("workers", sound.workers)):
        for key, value in values.items():
            if value < 0 or (value == 0 and key not in _LIMITS_MAY_BE_ZERO):
                yield error(
                    "E004",
                    f"{at(section, key)} must be more than 0.",
                    "Leave it out for the default; there is no value for no limit.",
                )


def _health(sound: Sound) -> Iterator[CheckMessage]:
    options = HealthOptions(**sound.health)
    paths = {key: getattr(options, key) for key in ("healthz", "readyz", "metrics")}
    for key, path in paths.items():
        if path and (not path.startswith("/") or {*path} & {*"{}?# "}):
            yield error(
                "E004",
                f"{at('health', key)} is {path!r}, which is no path.",
                'Write for example "/healthz", or "" to switch it off.',
            )
    used = [path for path in paths.values() if path]
    if len({*used}) < len(used):
        yield error(
            "E004",
            f"{at('health')} has one path twice.",
            'Write a path of its own for each, or "" to switch one off.',
        )


def _channel(pattern: str, options: dict[str, Any]) -> Iterator[CheckMessage]:
    path = ("channels", pattern)
    for key, choices in _CHOICES.items():
        if options.get(key, choices[0]) not in choices:
            yield error(
                "E004",
                f"{at(*path, key)} is {options[key]!r}.",
                f"Write one of {listed(map(repr, choices))}.",
            )
    for key in ("history_size", "leave_delay_s", "replay"):
        if options.get(key, 0) < 0:
            yield _too_small(0, *path, key)
    if options.get("history_ttl_s", 1) < 1:
        yield _too_small(1, *path, "history_ttl_s")
    for key in ("positioned", "force_recovery"):
        if options.get(key) and options.get("history_size") == 0:
            yield error(
                "E009",
                f"{at(*path, key)} is on, but the channel keeps no history.",
                'Write a "history_size" above 0, for example 100.',
            )


def _too_small(least: int, *path: str) -> CheckMessage:
    return error("E004", f"{at(*path)} must be at least {least}.", "Write a larger number.")


def _broker(sound: Sound) -> Iterator[CheckMessage]:
    beside = [key for key in ADDRESS_KEYS if key in sound.top]
    if "url" in sound.top:
        yield from _url(sound.top["url"])
        if beside:
            yield error(
                "E005",
                f"{at('url')} wins, so {listed(map(at, beside))} would have no effect.",
                "Put everything into the URL, or take the URL out.",
            )
    address = sound.top.get("address")
    if isinstance(address, str) and not address.startswith("/"):
        yield error(
            "E005",
            f"{at('address')} is a string but not the path of a unix socket.",
            'Write ("localhost", 6379), "/run/redis.sock", or use "url".',
        )
    if isinstance(address, list | tuple) and not 0 < address[1] <= PORT_MAX:
        yield error("E005", f"{at('address')} has no possible port.", _URL_EXAMPLE)
    if sound.url.startswith(MEMORY) and workers_asked() > 1:
        yield error(
            "E008",
            f"{MEMORY} is one process's memory, but WEB_CONCURRENCY asks for "
            f"{workers_asked()}: they would not hear each other.",
            f"Set {at('url')} to a Redis, or WEB_CONCURRENCY to 1.",
        )


def _url(url: str) -> Iterator[CheckMessage]:
    # The URL may hold a password, so it is not repeated.
    if not url.startswith(URL_SCHEMES):
        schemes = ", ".join(URL_SCHEMES)
        yield error("E005", f"{at('url')} must begin with one of {schemes}.", _URL_EXAMPLE)
        return
    if is_sentinel(url):
        yield from _sentinel_url(url)
        return
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        text = f"{at('url')} has no readable host and port."
        hint = "Escape special characters of the password, as urllib.parse.quote does."
        yield error("E005", text, hint)
        return
    if port == 0:
        yield error("E005", f"{at('url')} names port 0.", _URL_EXAMPLE)
    database = parts.path.strip("/")
    if parts.scheme in ("redis", "rediss") and database and not database.isdecimal():
        text = f"{at('url')}: what follows the host must be a database's number."
        yield error("E005", text, _URL_EXAMPLE)
    if parts.scheme == "unix" and not database:
        yield error("E005", f"{at('url')} names no socket.", _URL_EXAMPLE)


def _sentinel_url(url: str) -> Iterator[CheckMessage]:
    try:
        sentinel_address(url)
    except ValueError as wrong:
        yield error("E005", f"{at('url')}: {wrong}.", _URL_EXAMPLE)


def _origin(origin: str) -> Iterator[CheckMessage]:
    if origin == "*":
        yield error(
            "E010",
            f'{at("allowed_origins")}: "*" is refused.',
            "A browser sends your users' cookies along with a socket that any page opens, "
            "so any page could act for them. Name the sites: "
            '"https://app.example.com", or "https://*.example.com" for all subdomains.',
        )
    elif "://" not in origin:
        yield error(
            "E010",
            f"{at('allowed_origins')}: {origin!r} has no scheme.",
            f'Write "https://{origin}".',
        )
    elif not _can_match(origin):
        yield error(
            "E010",
            f"{at('allowed_origins')}: no page has the origin {origin!r}.",
            "Write scheme, host and perhaps port, without a path or a final slash; only "
            '"https://*.example.com" may have a star.',
        )


def _can_match(origin: str) -> bool:
    """Whether an entry allows the very origin that it names."""
    sample = origin.replace("://*.", "://any.", 1)
    return "*" not in sample and is_origin_allowed(
        sample, scheme="http", host="", hosts=[], origins=[origin]
    )


def _proxy(network: str) -> Iterator[CheckMessage]:
    try:
        TrustedProxies([network])
    except ValueError:
        yield error(
            "E011",
            f"{at('trusted_proxies')}: {network!r} is neither an address nor a network.",
            'Write "10.0.0.7", "10.0.0.0/8", "::1", or "unix" for peers on unix sockets. '
            "Names are not looked up.",
        )
