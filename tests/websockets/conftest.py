from __future__ import annotations

import pytest
from asgiref.sync import sync_to_async


@pytest.fixture
async def token(user):
    """A REST framework token of the user."""
    from rest_framework.authtoken.models import Token

    return (await Token.objects.acreate(user=user)).key


@pytest.fixture
async def session_cookie(user, client):
    """The cookies of a logged-in browser."""
    await sync_to_async(client.force_login)(user)
    return {name: morsel.value for name, morsel in client.cookies.items()}
