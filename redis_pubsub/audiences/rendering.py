"""What a site's models say: to which audience a user belongs, and what that is shown.

Everything here blocks and runs in a database thread; who waits for it, and for whom it is
asked, is `redis_pubsub.audiences.judge`'s.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import models, router
from django.utils import translation

from .. import codec
from ..conf import Config
from ..hub.viewers import UNKNOWN
from ..messages import Judged, Message
from ..metrics import Metrics, Occasionally
from ..models import PublishableModel
from ..models.publishable import serialize
from ..models.snapshots import encode_document, restored, twin
from .channels import published_model

logger = logging.getLogger("redis_pubsub.audiences")

_USERS_PER_QUERY = 500


class Audience(NamedTuple):
    """Users who see the same.

    Attributes:
        key: What ``audience_key`` said.
        language: What ``audience_language`` said.
    """

    key: Any
    language: str | None


class Renderer:
    """Asks models. What raises is logged, counted, and shown to nobody.

    Args:
        config: Says which models a channel may carry, and how large a view may be.
        metrics: Counts what could not be rendered.
    """

    def __init__(self, config: Config, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self._may_log = Occasionally()

    def ask(
        self,
        model: type[models.Model],
        pks: Sequence[str],
        users: dict[str, Any],
        stale: dict[str, None],
    ) -> tuple[list[Hashable], dict[str, Any]]:
        """To which audience of a model users belong, or `UNKNOWN`.

        Args:
            model: Which says so.
            pks: Users by primary key as text, ``""`` for nobody.
            users: Their rows, as they were read before.
            stale: Those whose rows have to be read anew.

        Returns:
            An answer for each of ``pks``, and the rows that were read, if active.
        """
        read = active_users(list(stale)) if stale else {}
        known: dict[str, Hashable] = {}
        for pk in dict.fromkeys(pks):
            user = read.get(pk) if pk in stale else users[pk]
            is_gone = bool(pk) and user is None
            known[pk] = UNKNOWN if is_gone else self.audience(model, user)
        return [known[pk] for pk in pks], read

    def audience(self, model: type[models.Model], user: Any) -> Hashable:
        """To which audience a user (``None`` for nobody) belongs, or `UNKNOWN`."""
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

    def render_all(
        self, messages: Sequence[Judged], asked: Sequence[tuple[Audience, Any]]
    ) -> list[list[Message | None]]:
        """`render` for many."""
        return [self.render(message, asked) for message in messages]

    def render(
        self, message: Judged, asked: Sequence[tuple[Audience, Any]]
    ) -> list[Message | None]:
        """What each audience gets of a message; a user stands for each."""
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


def active_users(pks: Sequence[str]) -> dict[str, Any]:
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
