"""Who may read the numbers: whoever has the token, or without one this machine alone."""

from __future__ import annotations

import hmac
from ipaddress import ip_address

from aiohttp import hdrs, web

from ...proxies import TrustedProxies, parse

_LOCAL_NAMES = ("localhost", "")


def may_read(request: web.Request, token: str) -> bool:
    """Whether a request may see the numbers.

    Args:
        request: As it came.
        token: What has to be sent as ``Authorization: Bearer …``. Where it is empty, the
            request must come from this machine, speak to this machine by a local name,
            and must not have been forwarded: behind a proxy nothing is public.
    """
    if token:
        scheme, _, sent = request.headers.get(hdrs.AUTHORIZATION, "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(
            sent.strip().encode("utf-8", "surrogateescape"), token.encode()
        )
    return _is_from_here(request) and _is_to_here(request) and not _is_forwarded(request)


def _is_from_here(request: web.Request) -> bool:
    transport = request.transport
    peer = transport.get_extra_info("peername") if transport is not None else None
    if not isinstance(peer, tuple):
        return transport is not None  # A unix socket.
    address = parse(peer[0])
    return address is not None and address.is_loopback


def _is_to_here(request: web.Request) -> bool:
    host = request.headers.get(hdrs.HOST, "")
    name = host.rpartition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    if name.lower() in _LOCAL_NAMES:
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _is_forwarded(request: web.Request) -> bool:
    return any(
        name.upper() == "VIA" or TrustedProxies.is_forwarding_header(name.upper())
        for name in request.headers
    )
