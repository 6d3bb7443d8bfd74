# tests.py
from django.contrib.auth.models import User
from django.test import TestCase

from redis_pubsub.testing import captured_messages, pubsub_site

from .models import Correspondence, Message


class MessageTest(TestCase):
    def setUp(self):
        self.ada = User.objects.create_user("ada")
        self.letters = Correspondence.objects.create()
        self.letters.participants.add(self.ada)

    def test_a_message_is_published(self):
        with captured_messages() as messages:
            Message.objects.create(
                correspondence=self.letters, author=self.ada, body="hello"
            )

        [message] = messages
        self.assertEqual(message.event, "create")
        self.assertEqual(message.channel, self.letters.channel.name)
        self.assertEqual(message.payload[0]["fields"]["body"], "hello")

    async def test_a_participant_hears_it(self):
        async with pubsub_site() as site:
            ws = await site.connect("/subscriptions/", user=self.ada)
            # The handler answers a command once it hears the subscriptions.
            await ws.send_json({"action": "subscribe", "channel": "nobody's"})
            self.assertIn("error", await ws.receive_json())

            await Message.objects.acreate(
                correspondence=self.letters, author=self.ada, body="hello"
            )
            await site.commit()

            [document] = await ws.receive_json()
            self.assertEqual(document["fields"]["body"], "hello")
