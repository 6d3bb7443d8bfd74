"""Views of stored messages: however many come back at once, each is rendered once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any

from ..hub.viewers import Viewer
from ..messages import Judged, Message

CACHE_BYTES = 16_777_216
"""What a process keeps of views that were rendered for those who come back."""
CACHE_S = 5.0
"""For how long: a storm of them comes within seconds, and rights change."""

Render = Callable[
    [Sequence[Judged], dict[Hashable, Viewer]],
    Awaitable[list[dict[Hashable, Message | None]]],
]


class _View:
    """What one audience gets of one stored message; under way until ``done``."""

    __slots__ = ("at", "done", "message")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.at = time.monotonic()
        self.message: Message | None = None


class ViewCache:
    """Keeps views for a moment.

    Args:
        render: Makes them, see `Audiences.render`.
    """

    def __init__(self, render: Render) -> None:
        self._render = render
        self._views: dict[tuple[Any, ...], _View] = {}
        self._bytes = 0

    def clear(self) -> None:
        """Forget all: what users may see has perhaps changed."""
        self._views.clear()
        self._bytes = 0

    async def views(
        self, messages: Sequence[Judged], audience: Hashable, viewer: Viewer
    ) -> list[Message | None]:
        """What an audience gets of stored messages; a viewer stands for it."""
        views, wanted = [], []
        now = time.monotonic()
        for message in messages:
            at = message.position
            key = (message.channel, at.epoch, at.offset, message.header.model, audience)
            view = self._views.get(key) if at.offset else None
            if view is None or now - view.at > CACHE_S:
                view = _View(asyncio.get_running_loop().create_future())
                wanted.append((message, view))
                if at.offset:
                    self._keep(key, view, message.size_bytes)
            views.append(view)
        if wanted:
            await self._fill(wanted, audience, viewer)
        for view in views:
            if not view.done.done():
                await asyncio.shield(view.done)
        return [view.message for view in views]

    async def _fill(
        self, wanted: list[tuple[Judged, _View]], audience: Hashable, viewer: Viewer
    ) -> None:
        try:
            found = await self._render(
                [message for message, _ in wanted], {audience: viewer}
            )
        except BaseException:
            # Whoever waits for these gets nothing of them, and nobody finds them again.
            self.clear()
            raise
        else:
            for (_, view), made in zip(wanted, found, strict=True):
                view.message = made.get(audience)
        finally:
            for _, view in wanted:
                if not view.done.done():
                    view.done.set_result(None)

    def _keep(self, key: tuple[Any, ...], view: _View, size_bytes: int) -> None:
        if self._bytes > CACHE_BYTES:
            self.clear()
        self._views[key] = view
        self._bytes += size_bytes
