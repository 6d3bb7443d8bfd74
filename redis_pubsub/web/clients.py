"""Who is at the other end of a request, and what counts as one client.

The one list of trusted proxies decides whose word is taken, see `redis_pubsub.proxies`.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_network

from aiohttp import web

from ..proxies import Client, TrustedProxies, parse

_CLIENT = web.RequestKey("redis_pubsub.client", Client)
_IPV6_PREFIX = 64
"""What one customer of a provider gets at least: addresses in it cost nothing."""


class Clients:
    """Tells whose request it is.

    Args:
        proxies: Whose ``X-Forwarded-*`` count.
    """

    def __init__(self, proxies: TrustedProxies) -> None:
        self._proxies = proxies

    def of(self, request: web.BaseRequest) -> Client:
        """Who sent a request, as far as it can be believed."""
        known: Client | None = request.get(_CLIENT)
        if known is None:
            # Asked for by the limits and by who looks at its Origin.
            known = request[_CLIENT] = self._of(request)
        return known

    def _of(self, request: web.BaseRequest) -> Client:
        transport = request.transport
        peer = transport.get_extra_info("peername") if transport is not None else None
        forwarded: dict[str, str] = {}
        for name, value in request.headers.items():
            # The first letters of those that count.
            if name[0] not in "XxFf":
                continue
            upper = name.upper()
            if TrustedProxies.is_forwarding_header(upper):
                known = forwarded.get(upper)
                forwarded[upper] = value if known is None else f"{known}, {value}"
        return self._proxies.client(peer[0] if isinstance(peer, tuple) else "", forwarded)

    def counted_as(self, request: web.BaseRequest) -> str:
        """What limits per address count a request under: the client's IPv4 address, or the
        /64 network of its IPv6 address.

        Returns:
            ``""`` where nobody said who the client is: for what comes straight from a
            trusted proxy there is no limit per address, since it may be everybody.
        """
        return network_of(self.known_address(self.of(request)))

    def known_address(self, client: Client) -> str:
        """Where a client is; ``""`` where a proxy that is trusted has not said it: what one
        does behind it is not to be held against all others."""
        return "" if self._proxies.is_trusted(client.address) else client.address


@lru_cache(maxsize=4_096)
def network_of(address: str) -> str:
    """What is counted as one: an IPv4 address, or the /64 network of an IPv6 one."""
    parsed = parse(address)
    if isinstance(parsed, IPv6Address):
        return str(ip_network((int(parsed), _IPV6_PREFIX), strict=False))
    return str(parsed) if parsed is not None else address
