"""The helpers that sites test with."""

from __future__ import annotations

import aiohttp
import pytest
from django.contrib.auth.models import User
from django.db import transaction
from django.test import TestCase

from redis_pubsub import publish
from redis_pubsub.contrib.websockets import websocket_pubsub
from redis_pubsub.testing import captured_messages, pubsub_site, send_pending
from tests.shop.models import Message


@websocket_pubsub("/hear/{channel}", authenticate=True)
async def hear(ws, params, manager, user):
    await user.arefresh_from_db()
    await manager.forward(ws, params["channel"])
    await ws.send_str(user.username)
    await ws.receive()


class InATestCase(TestCase):
    """Everything inside one transaction that never commits."""

    def test_captured_messages_are_those_of_the_block(self):
        """No Redis, no commit; what a savepoint undid is not there."""
        Message.objects.create(body="before")
        with captured_messages() as messages:
            message = Message.objects.create(body="hello")
            try:
                with transaction.atomic():
                    publish("news", "undone")
                    raise ValueError
            except ValueError:
                pass
            publish("news", {"a": 1}, event="said")

        self.assertEqual(
            [(m.channel, m.event) for m in messages],
            [(message.channel.name, "create"), ("news", "said")],
        )
        self.assertEqual(messages[1].payload, {"a": 1})

    async def test_a_client_hears_a_save_of_the_test(self):
        """C-17: login, handler and save see the test's own transaction; no network."""
        user = await User.objects.acreate_user("ada")
        message = await Message.objects.acreate(body="first")

        async with pubsub_site(hear) as site:
            ws = await site.connect(f"/hear/{message.channel.name}", user=user)
            self.assertEqual(await ws.receive_str(), "ada")
            message.body = "second"
            await message.asave()
            await site.commit()

            heard = [await ws.receive_json(), await ws.receive_json()]
            self.assertEqual([m[0]["fields"]["body"] for m in heard], ["first", "second"])
            await ws.close()

    async def test_a_refused_handshake_has_its_status(self):
        """`authenticate=True` without a user."""
        async with pubsub_site(hear) as site:
            with self.assertRaises(aiohttp.WSServerHandshakeError) as refused:
                await site.connect("/hear/x")
        self.assertEqual(refused.exception.status, 403)


@pytest.mark.django_db
def test_pending_messages_can_be_sent_by_hand(pubsub_memory, captured_messages):
    """For tests that look at another process or at Redis itself."""
    with captured_messages() as messages:
        publish("news", 1)
        assert messages == []
        send_pending()
        assert [m.payload for m in messages] == [1]

    assert len(messages) == 1


@pytest.mark.django_db(transaction=True)
async def test_the_site_works_without_a_transaction_and_on_a_real_redis(
    pubsub_site, pubsub_redis, user
):
    """The same helpers in pytest, on Redis, with threads of its own."""
    async with pubsub_site(hear, url=pubsub_redis) as site:
        ws = await site.connect("/hear/news", user=user)
        assert await ws.receive_str() == "ada"

        await site.publish("news", 1)

        assert await ws.receive_json() == 1
        await ws.close()
