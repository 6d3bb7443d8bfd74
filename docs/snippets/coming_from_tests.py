# tests.py
import aiohttp
from django.contrib.auth.models import Group, User
from django.test import TestCase

from redis_pubsub.testing import captured_jobs, pubsub_site

from . import coming_from


class ChatTest(TestCase):
    def setUp(self):
        kitchen = Group.objects.create(name="kitchen")
        self.ada, self.bob, self.eve = map(User.objects.create_user, ["ada", "bob", "eve"])
        kitchen.user_set.add(self.ada, self.bob)

    async def test_members_hear_each_other(self):
        async with pubsub_site(coming_from.chat) as site:
            ada = await site.connect("/chat/kitchen/", user=self.ada)
            bob = await site.connect("/chat/kitchen/", user=self.bob)
            for ws in (ada, bob):
                self.assertIn("hello", await ws.receive_json())

            await ada.send_json({"text": "Lunch?"})

            for ws in (ada, bob):
                self.assertEqual(await ws.receive_json(), {"by": "ada", "text": "Lunch?"})

    async def test_others_are_closed_and_strangers_refused(self):
        async with pubsub_site(coming_from.chat) as site:
            eve = await site.connect("/chat/kitchen/", user=self.eve)
            self.assertEqual((await eve.receive()).data, 4003)
            with self.assertRaises(aiohttp.WSServerHandshakeError) as refused:
                await site.connect("/chat/kitchen/")
            self.assertEqual(refused.exception.status, 403)

    def test_a_view_sends_a_job(self):
        with captured_jobs() as jobs:
            coming_from.my_view(None)

        self.assertEqual(
            [(job.name, job.kwargs) for job in jobs], [("a_task_channel", {"value": 3})]
        )
