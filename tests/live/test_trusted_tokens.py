"""Tokens whose word is enough: ``live["trust_tokens"]`` and the stateless JWT method."""

from __future__ import annotations

import time
import uuid

import jwt
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import models
from django.test.utils import isolate_apps
from rest_framework_simplejwt import state
from rest_framework_simplejwt.backends import TokenBackend

from redis_pubsub.auth import Authenticator, authjwt_stateless_method
from redis_pubsub.auth.standing import user_of_word
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.db import Orm

pytestmark = pytest.mark.django_db(transaction=True)

SECRET = "a secret of simplejwt, which is long enough for its HS256"
METHOD = "redis_pubsub.auth.authjwt_stateless_method"


@pytest.fixture
async def orm():
    made = Orm(2, 100)
    yield made
    made.close()


@pytest.fixture
def simplejwt(monkeypatch):
    monkeypatch.setattr(state, "token_backend", TokenBackend("HS256", SECRET))


def access_token(user, key=SECRET, **changes):
    claims = {"token_type": "access", "exp": int(time.time()) + 60, "jti": "1"}
    return jwt.encode({**claims, "user_id": str(user.pk), **changes}, key, "HS256")


def users_read(queries):
    return [sql for sql in queries if 'FROM "auth_user"' in sql]


@pytest.mark.parametrize(("trusts", "reads"), [(True, 0), (False, 1)])
async def test_a_trusted_token_connects_without_a_look_at_its_user(
    serve_live, user, queries, trusts, reads
):
    """With the option nobody asks for the row; without it, which is the default, one
    query does. Either way it is that user who is connected."""
    site = await serve_live(live={"trust_tokens": trusts})
    token = connection_token(user)
    queries.clear()

    client = await site.open()
    await client.result("connect", token=token)
    await client.result("subscribe", channel="members:1")

    assert len(users_read(queries)) == reads
    assert [each.user_id for each in site.connections] == [str(user.pk)]


async def test_a_trusted_token_does_not_save_who_is_found_inactive(serve_live, user):
    """What the token says holds until somebody looks: at the round, or when told."""
    site = await serve_live(live={"trust_tokens": True})
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    client = await site.open()
    await client.result("connect", token=connection_token(user))

    site.server.rechecks.look_again([str(user.pk)])

    assert await client.ended() == (3507, "permission denied")


async def test_a_user_of_word_is_read_when_somebody_looks(user):
    """Key and activity are the token's; every other field is the row's, as it is now."""
    known = user_of_word(str(user.pk))

    assert known.pk == user.pk
    assert known.is_active
    assert await sync_to_async(lambda: known.username)() == user.username


@isolate_apps("tests.shop")
def test_a_user_of_word_has_his_key_wherever_the_model_has_it(monkeypatch):
    """A site's own primary key stands behind the fields of Django's abstract user."""

    class Somebody(AbstractBaseUser):
        is_active = models.BooleanField(default=True)
        id = models.UUIDField(primary_key=True)

        class Meta:
            app_label = "shop"

    monkeypatch.setattr("redis_pubsub.auth.standing.get_user_model", lambda: Somebody)
    pk = uuid.uuid4()

    known = user_of_word(str(pk))

    assert known.pk == pk
    assert known.is_active is True


@pytest.mark.parametrize("pk", ["", None, "no number"])
def test_what_is_no_primary_key_is_no_user(pk):
    """A forged or foreign claim is refused, not an error."""
    assert user_of_word(pk) is None


async def test_a_stateless_token_costs_no_query(orm, simplejwt, user, queries):
    """Who verifies it needs its key alone."""
    standing = await Authenticator([METHOD], orm).standing_of(access_token(user))

    assert standing.user_id == str(user.pk)
    assert standing.expires_at > time.time()
    assert queries == []


@pytest.mark.parametrize(
    "changes", [{"exp": 1}, {"token_type": "refresh"}, {"user_id": "nobody"}]
)
async def test_a_stateless_token_is_checked_all_the_same(simplejwt, user, changes):
    """Expired, of another kind, or of nobody: nobody."""
    assert await authjwt_stateless_method(access_token(user, **changes)) is None


async def test_a_stateless_token_of_another_key_is_nobodys(simplejwt, user):
    """The signature decides."""
    token = access_token(user, key=SECRET[::-1])

    assert await authjwt_stateless_method(token) is None


async def test_tokens_that_name_no_primary_keys_need_the_other_method(
    simplejwt, user, monkeypatch
):
    """A site that names users by another field is told what to use."""
    from rest_framework_simplejwt.settings import api_settings

    monkeypatch.setattr(api_settings, "USER_ID_FIELD", "username")

    with pytest.raises(ImproperlyConfigured, match="use authjwt_method"):
        await authjwt_stateless_method(access_token(user))
