from __future__ import annotations

import pytest


@pytest.fixture
async def token(user):
    """A REST framework token of the user."""
    from rest_framework.authtoken.models import Token

    return (await Token.objects.acreate(user=user)).key
