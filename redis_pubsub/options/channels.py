"""What holds for one channel, and the rules that say so by its name."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, TypeVar

T = TypeVar("T")

CHANNEL_NAME_MAX = 255
"""Characters in a channel's name: the width of ``Channel.name``."""


@dataclass(frozen=True, slots=True)
class ChannelOptions:
    """What holds for one channel.

    Attributes:
        history_size: Messages kept in Redis; 0 keeps none.
        history_ttl_s: Seconds until an untouched history is forgotten.
        replay: Messages of the history that somebody new to the channel gets at once, the
            last ones.
        positioned: Whether connections watch the channel's position.
        force_recovery: Whether the live endpoint recovers without being asked.
        subscribe: Who may listen without a ``Subscription`` row: ``""`` nobody,
            ``"authenticated"``, ``"anyone"``.
        publish: Who may publish from a client, the same three.
        presence: Whether connected clients are listed.
        presence_by: ``"client"`` or ``"user"``.
        join_leave: Whether arrivals and departures are announced.
        leave_delay_s: Seconds a departure waits for a return.
        slow: What a connection that cannot keep up gets: ``"disconnect"``,
            ``"latest"`` or ``"drop"``.
        audience: Whether messages are rendered once per audience.
        models: Labels of the models the channel may carry; empty means all
            publishable ones.
    """

    history_size: int = 0
    history_ttl_s: int = 600
    replay: int = 0
    positioned: bool = False
    force_recovery: bool = False
    subscribe: str = ""
    publish: str = ""
    presence: bool = False
    presence_by: str = "client"
    join_leave: bool = False
    leave_delay_s: int = 0
    slow: str = "disconnect"
    audience: bool = False
    models: tuple[str, ...] = ()

    @property
    def has_history(self) -> bool:
        return self.history_size > 0

    @property
    def clears_history(self) -> bool:
        """Whether a message with these options ends what the channel keeps."""
        return self.history_size == 0 and self.history_ttl_s == 0


_CHANNELS_REMEMBERED = 4_096
CHANNEL_OPTION_NAMES = frozenset(f.name for f in fields(ChannelOptions))


def _remembered(find: Callable[[str], T]) -> Callable[[str], T]:
    """Answers of the last few thousand channels are kept."""
    return lru_cache(_CHANNELS_REMEMBERED)(find)


class ChannelRules:
    """Patterns of channel names and the options they change.

    A pattern is an exact name or a shell pattern (``"news:*"``). An exact name wins over
    patterns; among patterns the longest that matches wins. What a rule does not mention
    stays as the default has it.

    Args:
        rules: Pattern to option values.
    """

    def __init__(self, rules: Mapping[str, Mapping[str, Any]]) -> None:
        self._rules = rules
        patterns = [pattern for pattern in rules if any(sign in pattern for sign in "*?[")]
        patterns.sort(key=len, reverse=True)
        self._patterns = [
            (re.compile(fnmatch.translate(pattern)).match, pattern) for pattern in patterns
        ]
        # Of each channel of each connection that comes something is asked several times.
        self.pattern_of: Callable[[str], str] = _remembered(self._find)
        """The rule that speaks of a channel; ``""`` if none does."""

    def _find(self, channel: str) -> str:
        if channel in self._rules:
            return channel
        return next(
            (pattern for matches, pattern in self._patterns if matches(channel)), ""
        )

    def beside(self, default: ChannelOptions) -> Callable[[str], ChannelOptions]:
        """What says the options of a channel.

        Args:
            default: What holds where no rule says otherwise.

        Raises:
            TypeError: A rule has an option that there is none of.
        """
        made = {
            pattern: replace(default, **values) for pattern, values in self._rules.items()
        }
        made[""] = default
        return _remembered(lambda channel: made[self.pattern_of(channel)])
