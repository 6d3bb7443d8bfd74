"""Who has which connections: most users have one, and then no set is made for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class ByUser(Generic[T]):
    """Connections by their user's primary key as text; ``""`` is nobody's."""

    def __init__(self) -> None:
        self._held: dict[str, T | set[T]] = {}

    def add(self, user: str, connection: T) -> None:
        """Note one; again is fine."""
        held = self._held.get(user)
        if held is None or held is connection:
            self._held[user] = connection
        elif isinstance(held, set):
            held.add(connection)
        else:
            self._held[user] = {held, connection}

    def discard(self, user: str, connection: T) -> None:
        """Forget one; unknown ones are fine."""
        held = self._held.get(user)
        if isinstance(held, set):
            held.discard(connection)
            if not held:
                del self._held[user]
        elif held is connection:
            del self._held[user]

    def of(self, user: str) -> list[T]:
        """A user's."""
        held = self._held.get(user)
        if held is None:
            return []
        return list(held) if isinstance(held, set) else [held]

    def __contains__(self, user: object) -> bool:
        return user in self._held

    def __iter__(self) -> Iterator[str]:
        """Users who have any."""
        return iter(self._held)
