"""When a right ends: Django's own signals, told to every process after the commit.

What is told is whose rights may have changed, or which session or token is over; nothing
here asks whether anybody is connected. What no signal shows (``QuerySet.update``, a
session that is deleted in the table) is found by the rounds of ``limits["recheck_s"]``.
Nothing here breaks the write: a failure is logged, and left to those rounds.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db import DEFAULT_DB_ALIAS, models, router, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete

from ..codes import Disconnects
from .control import announce_all, announce_users, disconnect
from .publisher import publisher

if TYPE_CHECKING:
    from django.http import HttpRequest

logger = logging.getLogger("redis_pubsub.publishing")

USERS_MOST = 1_000
"""Users of one group that are named; of a larger one every process looks at everybody."""
_UID = "redis_pubsub_revocation"
_QUIET_FIELDS = frozenset({"last_login"})
"""Saved alone they end nobody's right: a login saves this one."""
_M2M_ACTIONS = ("post_add", "post_remove", "pre_clear", "post_clear")

R = TypeVar("R", bound=Callable[..., None])


def connect() -> None:
    """Connect users, groups and tokens, as far as the site has them; called by
    ``apps.ready()``."""
    if not apps.is_installed("django.contrib.auth"):
        return
    user = get_user_model()
    user_logged_in.connect(logged_in, dispatch_uid=_UID)
    user_logged_out.connect(logged_out, dispatch_uid=_UID)
    post_save.connect(user_saved, sender=user, dispatch_uid=_UID)
    post_delete.connect(user_deleted, sender=user, dispatch_uid=_UID)
    for name in ("groups", "user_permissions"):
        relation: Any = getattr(user, name, None)
        if hasattr(relation, "through"):
            m2m_changed.connect(
                user_relations_changed, sender=relation.through, dispatch_uid=_UID
            )
    from django.contrib.auth.models import Group

    through = Group.permissions.through
    m2m_changed.connect(group_permissions_changed, sender=through, dispatch_uid=_UID)
    post_save.connect(group_saved, sender=Group, dispatch_uid=_UID)
    pre_delete.connect(group_deleted, sender=Group, dispatch_uid=_UID)
    if apps.is_installed("rest_framework.authtoken"):
        token = apps.get_model("authtoken", "Token")
        post_delete.connect(token_deleted, sender=token, dispatch_uid=_UID)


def _never_breaking(receiver: R) -> R:
    """A receiver whose failure is logged: the write that sent the signal goes on."""

    @functools.wraps(receiver)
    def tell(*args: Any, **kwargs: Any) -> None:
        try:
            receiver(*args, **kwargs)
        except Exception:
            publisher.metrics.count("publish_failed")
            logger.exception("%s: connections were not told", receiver.__name__)

    return cast("R", tell)


@_never_breaking
def logged_in(request: HttpRequest | None, user: Any, **kwargs: Any) -> None:
    """The browser has another session by now: sockets of the one before come back, as who
    it is."""
    before = request and request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    session = getattr(request, "session", None)
    if before and session is not None and before != session.session_key:
        code = Disconnects.FORCE_RECONNECT
        disconnect(session=before, code=code, using=_database_of(user))


@_never_breaking
def logged_out(request: HttpRequest | None = None, user: Any = None, **kwargs: Any) -> None:
    """The session is over; its user's others are not."""
    session = getattr(request, "session", None)
    if request is None or session is None:
        return
    # What sockets were opened with, and what it is now: not always the same.
    keys = {request.COOKIES.get(settings.SESSION_COOKIE_NAME), session.session_key}
    for key in sorted(keys - {None, ""}):
        disconnect(user, session=key, using=_database_of(user))


@_never_breaking
def user_saved(
    instance: models.Model,
    created: bool,
    using: str,
    update_fields: Iterable[str] | None = None,
    **kwargs: Any,
) -> None:
    """He may be inactive now, or have another password."""
    if not created and (
        update_fields is None or not _QUIET_FIELDS.issuperset(update_fields)
    ):
        announce_users([instance.pk], using=using)


@_never_breaking
def user_deleted(instance: models.Model, using: str, **kwargs: Any) -> None:
    """Nobody may do anything in his name any more."""
    announce_users([instance.pk], using=using)


@_never_breaking
def user_relations_changed(
    sender: type[models.Model],
    instance: models.Model,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Users came into groups or left them, or were given or lost permissions."""
    if action not in _M2M_ACTIONS:
        return
    if not reverse:
        if action != "pre_clear":
            announce_users([instance.pk], using=using)
    elif pk_set is not None:
        announce_users(pk_set, using=using)
    elif action == "pre_clear":
        # Afterwards nobody knows any more whose it was.
        field = next(
            each
            for each in get_user_model()._meta.many_to_many
            if each.remote_field.through is sender
        )
        _announce_members({field.name: instance.pk}, using)


@_never_breaking
def group_permissions_changed(
    instance: models.Model,
    action: str,
    reverse: bool,
    pk_set: set[Any] | None,
    using: str,
    **kwargs: Any,
) -> None:
    """Groups were given or lost permissions: so did their members."""
    if action not in _M2M_ACTIONS:
        return
    if not reverse:
        if action != "pre_clear":
            _announce_members({"groups": instance.pk}, using)
    elif pk_set is not None:
        _announce_members({"groups__in": pk_set}, using)
    elif action == "pre_clear":
        _announce_members({"groups__permissions": instance.pk}, using)


@_never_breaking
def group_saved(
    instance: models.Model, created: bool, raw: bool, using: str, **kwargs: Any
) -> None:
    """It may have another name, and another group its old one."""
    if not created and not raw:
        _announce_members({"groups": instance.pk}, using)


@_never_breaking
def group_deleted(instance: models.Model, using: str, **kwargs: Any) -> None:
    """What its members could by it, they cannot any more."""
    _announce_members({"groups": instance.pk}, using)


@_never_breaking
def token_deleted(instance: Any, using: str, **kwargs: Any) -> None:
    """Whoever came with it comes no more."""
    disconnect(token=instance.key, code=Disconnects.INVALID_TOKEN, using=using)


def _announce_members(condition: dict[str, Any], using: str) -> None:
    """Users found by a condition; all there are, where they are too many to be named."""
    # A savepoint, so that a query that fails does not take the write along.
    with transaction.atomic(using=using):
        users = get_user_model()._base_manager.using(using).filter(**condition)
        pks = list(
            users.order_by().values_list("pk", flat=True).distinct()[: USERS_MOST + 1]
        )
    if len(pks) > USERS_MOST:
        announce_all(using=using)
    elif pks:
        announce_users(pks, using=using)


def _database_of(user: models.Model | None) -> str:
    """Where saving him would write: who is logged in may be read from a replica."""
    if not isinstance(user, models.Model):
        return DEFAULT_DB_ALIAS
    # His class rather than his type: ``request.user`` is something lazy.
    return router.db_for_write(user.__class__, instance=user)
