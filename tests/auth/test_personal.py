"""Whose groups a connection hears, however many come at once."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.contrib.auth.models import Group
from django.db import OperationalError

from redis_pubsub.auth import personal
from redis_pubsub.auth.personal import Personal
from redis_pubsub.db import Orm

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def groups(user):
    """Asks for a user's groups, as each connection does."""
    await user.groups.aadd(await Group.objects.acreate(name="editors"))
    orm = Orm(2, 100)
    asked = Personal("", orm)
    yield lambda: asked.groups(user)
    orm.close()
    await orm.wait_closed()


async def test_who_comes_while_the_first_looks_hears_his_groups_too(groups, monkeypatch):
    """After a restart all clients are back at once; one of them asks first."""
    look, may_look = personal._has_groups, threading.Event()
    monkeypatch.setattr(personal, "_has_groups", lambda: may_look.wait(30) and look())

    coming = [asyncio.create_task(groups()) for _ in range(5)]
    await asyncio.sleep(0)  # each of them has asked
    may_look.set()

    assert await asyncio.gather(*coming) == [["editors"]] * 5


async def test_a_failed_look_does_not_mean_that_there_are_no_groups(groups, monkeypatch):
    """The database was away for a moment: who comes next hears what is his."""

    def away():
        raise OperationalError("the database is away")

    with monkeypatch.context() as patch:
        patch.setattr(personal, "_has_groups", away)
        with pytest.raises(OperationalError):
            await groups()

    assert await groups() == ["editors"]
