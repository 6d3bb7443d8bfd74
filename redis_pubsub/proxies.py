"""Whose ``X-Forwarded-*`` headers count: one list for Django, the limits and the log."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Protocol

UNIX = "unix"
"""In the list: peers on unix sockets."""


class Transport(Protocol):
    def get_extra_info(self, name: str) -> object: ...


class Request(Protocol):
    """The parts of an aiohttp request that are looked at."""

    @property
    def transport(self) -> Transport | None: ...

    @property
    def headers(self) -> Mapping[str, str]: ...

    @property
    def scheme(self) -> str: ...


class TrustedProxies:
    """A list of networks whose word on the client is taken.

    Args:
        networks: Addresses, networks (``10.0.0.0/8``), or ``"unix"``.

    Raises:
        ValueError: One of them is none of these.
    """

    def __init__(self, networks: Iterable[str]) -> None:
        listed = list(networks)
        self._trusts_unix = UNIX in listed
        self._networks = [
            ipaddress.ip_network(network, strict=False)
            for network in listed
            if network != UNIX
        ]

    def trusts(self, address: str) -> bool:
        """Whether an address (``""`` for a unix socket) is a trusted proxy's."""
        if not address:
            return self._trusts_unix
        try:
            parsed = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return False
        mapped = getattr(parsed, "ipv4_mapped", None)
        parsed = mapped or parsed
        return any(parsed in network for network in self._networks)

    def peer(self, request: Request) -> str:
        """Address of the other end of the connection; ``""`` for a unix socket."""
        transport = request.transport
        name = transport.get_extra_info("peername") if transport is not None else None
        return str(name[0]) if isinstance(name, tuple) else ""

    def client(self, request: Request) -> str:
        """Address of the client: the right-most one that is no trusted proxy."""
        address = self.peer(request)
        forwarded = request.headers.get("X-Forwarded-For", "")
        hops = [hop.strip() for hop in forwarded.split(",") if hop.strip()]
        while hops and self.trusts(address):
            address = hops.pop()
        return address

    def scheme_and_host(self, request: Request) -> tuple[str, str]:
        """How the client reached us: ``http`` or ``https``, and host with port."""
        scheme, host = request.scheme, request.headers.get("Host", "")
        if self.trusts(self.peer(request)):
            scheme = _last(request.headers.get("X-Forwarded-Proto", "")) or scheme
            host = _last(request.headers.get("X-Forwarded-Host", "")) or host
        return ("https" if scheme in ("https", "wss") else "http"), host


def _last(values: str) -> str:
    return values.rpartition(",")[2].strip()
