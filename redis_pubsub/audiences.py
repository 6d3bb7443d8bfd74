"""Who sees what: asks models to which audience a user belongs, and renders its view.

A message is rendered once for each audience, from the row as it was published, in a
database thread. Whatever fails here is withheld: nobody is shown what was not found out to
be his.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import models, router
from django.utils import translation

from . import codec
from .conf import Config
from .db import Orm
from .exceptions import PoolBusy
from .hub.lanes import ask
from .hub.viewers import UNKNOWN, Viewer, Viewers
from .messages import EVERYONE, Judged, Message
from .metrics import Metrics, Occasionally
from .models import PublishableModel
from .models.publishable import has_audiences, serialize
from .models.snapshots import encode_document, restored, twin

if TYPE_CHECKING:
    from .engine import ControlEvent

logger = logging.getLogger("redis_pubsub.audiences")

CACHE_BYTES = 16_777_216
"""What a process keeps of views that were rendered for those who come back."""
CACHE_S = 5.0
"""For how long: a storm of them comes within seconds, and rights change."""
_CHUNK = 64
_USERS_PER_QUERY = 500
_RETRY_S = 0.05
_ROUNDS = 5


class Audience(NamedTuple):
    """Users who see the same.

    Attributes:
        key: What ``audience_key`` said.
        language: What ``audience_language`` said.
    """

    key: Any
    language: str | None


class _View:
    """What one audience gets of one stored message; under way until ``done``."""

    __slots__ = ("at", "done", "message")

    def __init__(self, done: asyncio.Future[None]) -> None:
        self.done = done
        self.at = time.monotonic()
        self.message: Message | None = None


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
        self._cache: dict[tuple[Any, ...], _View] = {}
        self._cache_bytes = 0
        self._may_log = Occasionally()

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
        self._cache_bytes = 0
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
        model = self._model(label)
        if model is None:
            return [UNKNOWN] * len(viewers)
        stale = [viewer for viewer in viewers if viewer.is_stale]
        users = {viewer.pk: viewer.user for viewer in viewers}
        # `forget` puts another dictionary there: what was read is then out of date. Of this
        # viewer alone: others change all the time.
        before = [viewer.audiences for viewer in stale]
        stale_pks = dict.fromkeys(viewer.pk for viewer in stale)
        found, read = await self._run(
            self._ask, model, [v.pk for v in viewers], users, stale_pks
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
        made = await self._run(self._render_all, messages, asked)
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
                found = await self._cached(some, audience, viewer)
                if viewer.audiences.get(label) == audience:
                    views.update(zip(map(id, some), found, strict=True))
                    break
        return views

    async def _cached(
        self, messages: Sequence[Judged], audience: Audience, viewer: Viewer
    ) -> list[Message | None]:
        """Views of stored messages; however many ask at once, each is rendered once."""
        views, wanted = [], []
        now = time.monotonic()
        for message in messages:
            at = message.position
            key = (message.channel, at.epoch, at.offset, message.header.model, audience)
            view = self._cache.get(key) if at.offset else None
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
        self, wanted: list[tuple[Judged, _View]], audience: Audience, viewer: Viewer
    ) -> None:
        try:
            found = await self.render(
                [message for message, _ in wanted], {audience: viewer}
            )
        except BaseException:
            # Whoever waits for these gets nothing of them, and nobody finds them again.
            self._cache.clear()
            self._cache_bytes = 0
            raise
        else:
            for (_, view), made in zip(wanted, found, strict=True):
                view.message = made.get(audience)
        finally:
            for _, view in wanted:
                if not view.done.done():
                    view.done.set_result(None)

    def _keep(self, key: tuple[Any, ...], view: _View, size_bytes: int) -> None:
        if self._cache_bytes > CACHE_BYTES:
            self._cache.clear()
            self._cache_bytes = 0
        self._cache[key] = view
        self._cache_bytes += size_bytes

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
                model = self._model(label)
                known[label] = UNKNOWN if model is None else self._audience(model, user)
            audience = known[label]
            if isinstance(audience, Audience):
                (view,) = self._render(message, [(audience, user)])
                seen += [] if view is None else [view]
        return seen

    # -- in a thread ---------------------------------------------------------------------

    async def _run(self, call: Any, *args: Any) -> Any:
        while True:
            try:
                return await self._orm.run(call, *args)
            except PoolBusy:
                # What waits for this is bounded.
                self._metrics.count("audience_busy")
                await asyncio.sleep(_RETRY_S)

    def _ask(
        self,
        model: type[models.Model],
        pks: Sequence[str],
        users: dict[str, Any],
        stale: dict[str, None],
    ) -> tuple[list[Hashable], dict[str, Any]]:
        read = _active_users(list(stale)) if stale else {}
        known: dict[str, Hashable] = {}
        for pk in dict.fromkeys(pks):
            user = read.get(pk) if pk in stale else users[pk]
            is_gone = bool(pk) and user is None
            known[pk] = UNKNOWN if is_gone else self._audience(model, user)
        return [known[pk] for pk in pks], read

    def _audience(self, model: type[models.Model], user: Any) -> Hashable:
        if not issubclass(model, PublishableModel):
            # Listed in ``publishable_models``: it says nothing of audiences.
            return Audience(None, None)
        try:
            who = AnonymousUser() if user is None else user
            audience = Audience(
                _ask_class(model, "audience_key", who),
                _ask_class(model, "audience_language", who),
            )
            hash(audience)
        except Exception:
            self._failed("the audience of a user of %s is unknown", model._meta.label)
            return UNKNOWN
        return audience

    def _render_all(
        self, messages: Sequence[Judged], asked: Sequence[tuple[Audience, Any]]
    ) -> list[list[Message | None]]:
        return [self._render(message, asked) for message in messages]

    def _render(
        self, message: Judged, asked: Sequence[tuple[Audience, Any]]
    ) -> list[Message | None]:
        instance = None
        model = published_model(self._config, self._metrics, message)
        try:
            if model is not None:
                instance = restored(model, message.opened().payload)
        except Exception:
            self._failed("a snapshot of %s cannot be read", message.header.model)
        if model is None or instance is None:
            self._metrics.count("audience_errors")
            return [None] * len(asked)
        raws: list[bytes | None] = []
        for audience, user in asked:
            try:
                raws.append(self._view(model, twin(instance), message, audience, user))
            except Exception:
                self._failed("withheld %s from an audience", message.header.model)
                raws.append(None)
        return [None if raw is None else message.view(raw) for raw in raws]

    def _view(
        self,
        model: type[models.Model],
        instance: Any,
        message: Judged,
        audience: Audience,
        user: Any,
    ) -> bytes | None:
        fields = message.header.fields
        is_ours = isinstance(instance, PublishableModel)
        with translation.override(audience.language or settings.LANGUAGE_CODE):
            who = AnonymousUser() if user is None else user
            if is_ours and not _ask_class(model, "can_view", who, instance):
                return None
            if fields is not None or not is_ours:
                document: Any = serialize(instance, fields or ())
            else:
                document = _sync(instance.serialize_for(audience.key))
            raw = encode_document(document)
        codec.check_size(raw, self._config.limits.message_bytes)
        return raw

    def _failed(self, text: str, label: str) -> None:
        self._metrics.count("audience_errors")
        if self._may_log((text, label)):
            logger.exception(text, label)

    def _model(self, label: str) -> type[models.Model] | None:
        try:
            return apps.get_model(label)
        except (LookupError, ValueError):
            return None


def _ask_class(model: type[models.Model], name: str, *args: Any) -> Any:
    if not isinstance(inspect.getattr_static(model, name), classmethod | staticmethod):
        raise TypeError(f"{model._meta.label}.{name} must be a classmethod")
    return _sync(getattr(model, name)(*args))


def _sync(answer: Any) -> Any:
    """An answer of the site's code.

    Raises:
        TypeError: It is a coroutine, which would be true whatever it says.
    """
    if inspect.isawaitable(answer):
        if inspect.iscoroutine(answer):
            answer.close()
        raise TypeError(
            "can_view, audience_key, audience_language and serialize_for are plain "
            "functions: they run in a thread, and may query"
        )
    return answer


def _active_users(pks: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    model = get_user_model()
    # Not a replica: his rights have changed a moment ago, and it may not know yet.
    users = model._default_manager.using(router.db_for_write(model))
    for begin in range(0, len(pks), _USERS_PER_QUERY):
        some = pks[begin : begin + _USERS_PER_QUERY]
        for user in users.filter(pk__in=some):
            if user.is_active:
                found[str(user.pk)] = user
    return found


def published_model(
    config: Config, metrics: Metrics, message: Message
) -> type[models.Model] | None:
    """The model that a message says it is a row of, if its channel may carry that."""
    label = message.model
    if not label:
        return None
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        return None
    may_carry = config.model_channel_options(message.channel).models
    if may_carry and label not in map(str.lower, may_carry):
        metrics.count("foreign_models")
        return None
    is_listed = label in map(str.lower, config.publishable_models)
    return model if is_listed or issubclass(model, PublishableModel) else None


def is_for_everybody(config: Config, message: Message) -> bool:
    """Whether nothing has to be asked before a message is shown to somebody: it is no
    snapshot, nor an ordinary message where only judged ones belong."""
    if message.is_judged:
        return False
    is_open = message.header.audience == EVERYONE
    return is_open or not is_audience_channel(config, message.channel)


def is_audience_channel(config: Config, channel: str) -> bool:
    """Whether a channel is for judged messages alone: a rule says so, or names a model
    that has audiences, or the channel is such a model's own."""
    options = config.channel_options(channel)
    if options.audience:
        return True
    label = channel.partition(":")[0]
    return any(_has_audiences(each) for each in (*options.models, label))


def _has_audiences(label: str) -> bool:
    if label.count(".") != 1:
        return False
    try:
        return has_audiences(apps.get_model(label))
    except (LookupError, ValueError):
        return False
