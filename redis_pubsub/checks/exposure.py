"""What lets in, or lets read, more than a site in production can mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage

from ..auth.session import has_sessions
from ..broker import MEMORY
from ..options import LiveOptions
from .report import at, listed, warning
from .shape import Sound

KEY_BYTES = 32
"""What HMAC-SHA256 wants of a key: RFC 7518, section 3.2."""
METRICS_TOKEN_CHARACTERS = 16
_NEW_KEY = 'python -c "import secrets; print(secrets.token_urlsafe(32))"'


def check_exposure(sound: Sound) -> Iterator[CheckMessage]:
    """Everything of ``check --deploy`` that is about who gets in."""
    yield from _cookies()
    yield from _publishing_by_anyone(sound)
    yield from _redis(sound)
    yield from _keys(sound)
    yield from _proxies(sound)


def _cookies() -> Iterator[CheckMessage]:
    same_site = settings.SESSION_COOKIE_SAMESITE
    if has_sessions() and (not same_site or same_site.lower() == "none"):
        yield warning(
            "W010",
            f"SESSION_COOKIE_SAMESITE is {same_site!r}: pages of any site make browsers "
            "send your users' session cookies along, and the Origin check is all that is "
            "left between them and a socket.",
            'Set it to "Lax", or "Strict"; a page of your own on another site opens its '
            "socket with a ticket.",
        )


def _publishing_by_anyone(sound: Sound) -> Iterator[CheckMessage]:
    patterns = [
        pattern
        for pattern, options in sound.channels.items()
        if options.get("publish") == "anyone"
    ]
    if sound.live.get("anonymous") is True and patterns:
        yield warning(
            "W011",
            f"{at('live', 'anonymous')} is on, and anyone may publish on "
            f"{listed(patterns)}: whoever finds the address can send to all who listen "
            "there.",
            'Write "publish": "authenticated", or let authorize_method decide.',
        )


def _redis(sound: Sound) -> Iterator[CheckMessage]:
    host, has_tls, has_password = _reached(sound)
    if not host or _is_here(host):
        return
    if not has_tls:
        yield warning(
            "W012",
            "The Redis is on another machine, and the way there has no TLS: who is between "
            "reads every message, and the password.",
            f'Write {at("url")} with "rediss://", or silence this where the network is '
            "encrypted already.",
        )
    if not has_password:
        yield warning(
            "W013",
            "The Redis is on another machine, and needs no password: whoever reaches it "
            "can read what is published, and send messages to your clients.",
            f"Put a user and a password into {at('url')}; manage.py pubsub_acl prints the "
            f"users that are needed. {at('envelope_key')} makes forged messages useless.",
        )


def _reached(sound: Sound) -> tuple[str, bool, bool]:
    """The host (``""`` for a socket), whether there is TLS, whether there is a password."""
    address: Any = sound.top.get("address")
    if address and "url" not in sound.top:
        host = "" if isinstance(address, str) else address[0]
        return host, False, bool(sound.top.get("password"))
    if sound.url.startswith(MEMORY):
        return "", False, False
    try:
        parts = urlsplit(sound.url)
    except ValueError:
        return "", False, False  # E005 says so.
    has_password = bool(parts.password) or "password=" in parts.query
    if parts.scheme == "unix":
        return "", False, has_password
    return parts.hostname or "", parts.scheme == "rediss", has_password


def _is_here(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _keys(sound: Sound) -> Iterator[CheckMessage]:
    tokens = LiveOptions(token_key=sound.live.get("token_key", "")).token_keys
    for place, keys in (
        (at("live", "token_key"), tokens),
        (at("envelope_key"), (sound.top.get("envelope_key", ""),)),
    ):
        yield from _key(place, [key for key in keys if key])
    metrics = sound.health.get("metrics_token", "")
    if metrics and len(metrics) < METRICS_TOKEN_CHARACTERS:
        yield warning(
            "W016",
            f"{at('health', 'metrics_token')} has {len(metrics)} characters, and nobody "
            "counts who guesses it.",
            f"Take at least {METRICS_TOKEN_CHARACTERS} random ones: {_NEW_KEY}",
        )


def _key(place: str, keys: Sequence[str]) -> Iterator[CheckMessage]:
    shortest = min((len(key.encode()) for key in keys), default=KEY_BYTES)
    if shortest < KEY_BYTES:
        yield warning(
            "W014",
            f"{place} has {shortest} bytes: who has one signed text can try keys "
            "until one fits, and is everybody then.",
            f"Take {KEY_BYTES} random bytes or more: {_NEW_KEY}",
        )
    if any(key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS) for key in keys):
        yield warning(
            "W015",
            f"{place} is Django's SECRET_KEY: who gets to know one has the other, and "
            "neither can be changed alone.",
            f"Give it a key of its own: {_NEW_KEY}",
        )


def _proxies(sound: Sound) -> Iterator[CheckMessage]:
    for network in sound.texts("trusted_proxies"):
        try:
            is_everybody = ip_network(network).prefixlen == 0
        except ValueError:
            continue  # E011 says so, or it is "unix".
        if is_everybody:
            yield warning(
                "W017",
                f"{at('trusted_proxies')} has {network}, which is everybody: any client "
                "chooses the address that it is limited and logged by, and the host that "
                "its Origin is compared with.",
                "Name the addresses of your proxies.",
            )
