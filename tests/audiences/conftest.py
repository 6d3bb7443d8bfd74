"""A live endpoint, documents of which staff sees more, and who looks at them."""

from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async

from redis_pubsub.models import Channel
from tests.live.conftest import serve_live
from tests.shop.models import Document

__all__ = ["serve_live"]


@pytest.fixture
def staff(django_user_model):
    return django_user_model.objects.create_user("staff", password="x", is_staff=True)


@pytest.fixture
def stored():
    """Do blocking database work, as a view does."""
    return lambda function, *args, **kwargs: sync_to_async(function)(*args, **kwargs)


@pytest.fixture
async def board(user, staff):
    """A channel of documents that both users are subscribed to."""
    channel = await Channel.objects.acreate(name="board")
    await channel.asubscribe(user)
    await channel.asubscribe(staff)
    return channel


@pytest.fixture
def write(board):
    """Publish a document on the board."""

    def make(title, **fields):
        return sync_to_async(Document.objects.create)(channel=board, title=title, **fields)

    return make
