"""The audiences of one engine: what its hub, and those who come back, ask of them.

Nothing here blocks: what models say is found out in a thread (`Renderer`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

from ..conf import Config
from ..db import Orm
from ..exceptions import PoolBusy
from ..hub.lanes import ask
from ..hub.viewers import UNKNOWN, Viewer, Viewers
from ..messages import EVERYONE, Judged, Message
from ..metrics import Metrics
from .cache import ViewCache
from .channels import is_audience_channel, is_for_everybody, model_named
from .rendering import Audience, Renderer

if TYPE_CHECKING:
    from ..engine import ControlEvent

_CHUNK = 64
_RETRY_S = 0.05
_ROUNDS = 5


class Audiences:
    """The audiences of one engine; what its hub asks (`redis_pubsub.hub.viewers.Judge`).

    Args:
        config: Says which channels are for judged messages alone.
        orm: Runs what models say.
        metrics: Counts what could not be rendered.
        viewers: Who looks; set with `bind`.
    """

    def __init__(self, config: Config, orm: Orm, metrics: Metrics) -> None:
        self._config = config
        self._orm = orm
        self._metrics = metrics
        self._viewers = Viewers()
        self._cache = ViewCache(self.render)
        self.renderer = Renderer(config, metrics)

    def bind(self, viewers: Viewers) -> None:
        """Judge for these viewers."""
        self._viewers = viewers

    def heard(self, event: ControlEvent) -> None:
        """Take a control event: what users may see has perhaps changed."""
        if event.kind == "refresh":
            self.forget(event.users)
        elif event.kind == "all":
            self.forget()

    def forget(self, users: Sequence[str] | None = None) -> None:
        """Ask anew what users may see, before they get anything more.

        Args:
            users: By primary key as text; all if not given.
        """
        self._cache.clear()
        self._viewers.forget(users)

    # -- what the hub asks ---------------------------------------------------------------

    def is_strict(self, channel: str) -> bool:
        """Whether a channel is for judged messages alone."""
        return is_audience_channel(self._config, channel)

    def patience(self, channel: str) -> int:
        """How many messages in a row may be withheld from somebody before his client is
        moved on: half of what the history keeps."""
        return self._config.model_channel_options(channel).history_size // 2

    async def audiences(self, label: str, viewers: Sequence[Viewer]) -> list[Hashable]:
        """To which audience of a model each viewer belongs, or `UNKNOWN`."""
        model = model_named(label)
        if model is None:
            return [UNKNOWN] * len(viewers)
        stale = [viewer for viewer in viewers if viewer.is_stale]
        users = {viewer.pk: viewer.user for viewer in viewers}
        # `forget` puts another dictionary there: what was read is then out of date. Of this
        # viewer alone: others change all the time.
        before = [viewer.audiences for viewer in stale]
        stale_pks = dict.fromkeys(viewer.pk for viewer in stale)
        found, read = await self._run(
            self.renderer.ask, model, [v.pk for v in viewers], users, stale_pks
        )
        for viewer, audiences in zip(stale, before, strict=True):
            if viewer.audiences is audiences and viewer.pk in read:
                viewer.user, viewer.is_stale = read[viewer.pk], False
        answers: list[Hashable] = found
        return answers

    async def render(
        self, messages: Sequence[Judged], audiences: dict[Hashable, Viewer]
    ) -> list[dict[Hashable, Message | None]]:
        """What each audience gets of each message; a viewer stands for each audience."""
        asked = [
            (audience, viewer.user)
            for audience, viewer in audiences.items()
            if isinstance(audience, Audience) and not viewer.is_stale
        ]
        made = await self._run(self.renderer.render_all, messages, asked)
        return [dict(zip([a for a, _ in asked], views, strict=True)) for views in made]

    # -- for those who come back ---------------------------------------------------------

    async def shown(
        self, channel: str, messages: Sequence[Message], viewer: Viewer | None
    ) -> list[Message]:
        """What a viewer gets of stored messages, in their order.

        Raises:
            PoolBusy: Too many database calls wait.
        """
        is_strict = self.is_strict(channel)
        if not is_strict and not any(message.is_judged for message in messages):
            return list(messages)
        shown: list[Message] = []
        for begin in range(0, len(messages), _CHUNK):
            chunk = messages[begin : begin + _CHUNK]
            judged = [message for message in chunk if isinstance(message, Judged)]
            views = await self._views(judged, viewer) if viewer is not None else {}
            for message in chunk:
                if isinstance(message, Judged):
                    view = views.get(id(message))
                    if view is not None:
                        shown.append(view)
                elif not is_strict or message.header.audience == EVERYONE:
                    shown.append(message)
        return shown

    async def _views(
        self, messages: Sequence[Judged], viewer: Viewer
    ) -> dict[int, Message | None]:
        views: dict[int, Message | None] = {}
        for label in {message.header.model for message in messages}:
            some = [message for message in messages if message.header.model == label]
            for _ in range(_ROUNDS):
                await ask(self, self._viewers, label, [viewer])
                audience = viewer.audiences.get(label)
                if not isinstance(audience, Audience):
                    if audience is UNKNOWN:
                        break
                    continue
                found = await self._cache.views(some, audience, viewer)
                if viewer.audiences.get(label) == audience:
                    views.update(zip(map(id, some), found, strict=True))
                    break
        return views

    def seen_by(self, messages: Sequence[Message], user: Any) -> list[Message]:
        """What a user (``None`` for nobody) gets of stored messages. Blocking."""
        known: dict[str, Hashable] = {}
        seen = []
        for message in messages:
            if not isinstance(message, Judged):
                if is_for_everybody(self._config, message):
                    seen.append(message)
                continue
            label = message.header.model
            if label not in known:
                known[label] = UNKNOWN
                model = model_named(label)
                if model is not None:
                    known[label] = self.renderer.audience(model, user)
            audience = known[label]
            if isinstance(audience, Audience):
                (view,) = self.renderer.render(message, [(audience, user)])
                seen += [] if view is None else [view]
        return seen

    async def _run(self, call: Any, *args: Any) -> Any:
        while True:
            try:
                return await self._orm.run(call, *args)
            except PoolBusy:
                # What waits for this is bounded.
                self._metrics.count("audience_busy")
                await asyncio.sleep(_RETRY_S)
