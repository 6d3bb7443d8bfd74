"""Whose ``X-Forwarded-*`` headers count, and what they then say.

Pure: addresses and header texts in, one `Client` out; knows no socket and no WSGI.
Everything that asks "who is the client?" asks here, so that Django, the limits and the
log can never disagree.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import ClassVar

UNIX = "unix"
"""In a list of networks: peers that came over a unix socket."""

FORWARDED_FOR = "X-FORWARDED-FOR"
FORWARDED_PROTO = "X-FORWARDED-PROTO"
SINGLE_VALUED = ("X-FORWARDED-HOST", "X-FORWARDED-PORT")
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


@dataclass(frozen=True, slots=True)
class Client:
    """Who sent a request, as far as it can be believed.

    Attributes:
        address: Address of the client; ``""`` over a unix socket nobody spoke for.
        scheme: ``"http"``, ``"https"``, or ``""`` where no proxy said.
        is_forwarded: Whether the address is a proxy's word, so that the port of the
            socket is not the client's.
        headers: The forwarding headers that may be shown to an application, by
            upper-case name.
    """

    address: str
    scheme: str
    is_forwarded: bool
    headers: Mapping[str, str]


class TrustedProxies:
    """One list of networks that decides whose word is taken.

    The right-most address that is not a trusted proxy is the client: everything to
    its left was written by the client itself or by somebody it chose. Headers of an
    untrusted peer are not shown to the application at all.

    Args:
        networks: ``"10.0.0.0/8"``, ``"::1"``, ``"unix"``.

    Raises:
        ValueError: One of them is not a network.
    """

    DEFAULT: ClassVar[tuple[str, ...]] = ("127.0.0.0/8", "::1", UNIX)

    def __init__(self, networks: Iterable[str] = DEFAULT) -> None:
        names = tuple(networks)
        self._trusts_unix = UNIX in names
        self._networks = tuple(ip_network(name) for name in names if name != UNIX)
        # A proxy is asked about with every request, and there are few of them.
        self._is_trusted_cached = lru_cache(maxsize=1024)(self._is_listed)

    @staticmethod
    def is_forwarding_header(name: str) -> bool:
        """Whether a header (upper case) is a proxy's word about the client."""
        return name.startswith("X-FORWARDED-") or name in ("FORWARDED", "X-REAL-IP")

    def is_trusted(self, peer: str) -> bool:
        """Whether the peer of a socket is one of ours; ``""`` is a unix socket."""
        return self._trusts_unix if not peer else self._is_trusted_cached(peer)

    def client(self, peer: str, headers: Mapping[str, str]) -> Client:
        """Decide who the client is.

        Args:
            peer: Address at the other end of the socket; ``""`` for a unix socket.
            headers: Forwarding headers by upper-case name, repeated ones joined
                with a comma in their order.
        """
        peer = plain_address(peer)
        if not headers or not self.is_trusted(peer):
            return Client(address=peer, scheme="", is_forwarded=False, headers={})
        shown = dict(headers)
        chain = self._believed(headers.get(FORWARDED_FOR, ""))
        if chain:
            # What stands further left is the client's own claim; applications that
            # take the first address must not find it there.
            shown[FORWARDED_FOR] = ", ".join(chain)
        else:
            shown.pop(FORWARDED_FOR, None)
        for name in (FORWARDED_PROTO, *SINGLE_VALUED):
            if name in shown:
                shown[name] = last_of(shown[name])
        scheme = SCHEMES.get(shown.get(FORWARDED_PROTO, "").lower(), "")
        return Client(
            address=chain[0] if chain else peer,
            scheme=scheme,
            is_forwarded=bool(chain),
            headers=shown,
        )

    def _believed(self, forwarded_for: str) -> list[str]:
        """The end of the chain that trusted proxies wrote, the client first."""
        chain: list[str] = []
        for entry in reversed(forwarded_for.split(",")):
            address = without_port(entry.strip())
            if not address:
                break
            chain.insert(0, address)
            if not self.is_trusted(address):
                break
        return chain

    def _is_listed(self, peer: str) -> bool:
        address = parse(peer)
        return address is not None and any(address in net for net in self._networks)


def parse(text: str) -> IPv4Address | IPv6Address | None:
    """An address, mapped ones as what they map; ``None`` where it is none."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


def plain_address(text: str) -> str:
    """One spelling per client: ``::ffff:10.0.0.1`` is ``10.0.0.1``."""
    return text[7:] if text.startswith("::ffff:") and "." in text else text


def without_port(entry: str) -> str:
    """``10.0.0.1:80``, ``[::1]:80`` and ``::1`` as addresses; ``""`` for anything else."""
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    address = parse(entry)
    return "" if address is None else str(address)


def last_of(value: str) -> str:
    """The value the nearest proxy wrote, where several stand in one line."""
    return value.rpartition(",")[2].strip()
