"""What things are called in Redis.

Every key of a channel is ``<prefix>:{<channel>}:<part>``. The braces make one
cluster slot of them; in the channel's name ``%``, ``{``, ``}`` and control characters are
escaped, so that no two channels share a key and none chooses its slot.
"""

from __future__ import annotations

import re

_escaped = re.compile(r"[%{}\x00-\x1f\x7f]")


def escape(channel: str) -> str:
    """A channel's name as it stands between the braces of its keys."""
    return _escaped.sub(lambda match: f"%{ord(match[0]):02x}", channel)


def channel_key(prefix: str, channel: str, part: str) -> bytes:
    """The name of one of a channel's keys."""
    return f"{prefix}:{{{escape(channel)}}}:{part}".encode()
