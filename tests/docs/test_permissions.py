"""docs/howto/permissions.rst, executed."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async

from redis_pubsub.models import Channel
from tests.live.conftest import serve_live

__all__ = ["serve_live"]


@pytest.fixture
def editor(django_user_model):
    return django_user_model.objects.create_user("editor", password="x", is_superuser=True)


async def test_editors_see_more_than_readers(letters, serve_live, user, editor):
    """What the page's first example promises, and its second."""
    models = letters("models")
    board = await Channel.objects.acreate(name="desk")
    await board.asubscribe(user)
    await board.asubscribe(editor)
    live = await serve_live()
    theirs, mine = await live.connect(user), await live.connect(editor)
    await theirs.subscribe("desk")
    await mine.subscribe("desk")

    for model, fields in (
        (models.Report, {"title": "draft", "salary": 1, "is_draft": True}),
        (models.Report, {"title": "done", "salary": "2.50"}),
        (models.Diary, {"owner": user, "text": "dear"}),
    ):
        await sync_to_async(model.objects.create)(channel=board, **fields)

    assert (await mine.push("pub"))["data"]["title"] == "draft"
    assert (await mine.push("pub"))["data"]["salary"] == "2.50"
    assert (await theirs.push("pub"))["data"] == {"id": 2, "title": "done"}
    assert (await theirs.push("pub"))["data"][0]["fields"]["text"] == "dear"
    assert await mine.silent() == []
