"""Event sockets in a site's own tests: no network, the test's own transaction."""

from __future__ import annotations

import asyncio

from django.contrib.auth.models import User
from django.test import TestCase

from redis_pubsub.contrib.events import EventSocket, EventSocketHandler, event
from redis_pubsub.testing import pubsub_site

box = EventSocket("/box/", authenticate=True)


@box.on("name")
def name(socket, data):
    # A plain function sees what the test has not committed, and writes into it.
    user = User.objects.get(pk=socket.user.pk)
    user.first_name = data
    user.save()
    socket.emit("named", user.username)


@box.on("all")
async def everybody(socket, data):
    await box.emit("told", data)


class Counter(EventSocketHandler):
    path = "/counter/{start}/"

    async def on_open(self):
        self.total = int(self.params["start"])

    @event()
    def count(self):
        self.total += 1
        self.emit("counted", self.total)
        if self.total > 5:
            self.close(4000)


class InATestCase(TestCase):
    """C-17: within one transaction that never commits."""

    async def test_a_client_speaks_with_an_event_socket(self):
        """C-17: login, handlers and database are the test's; emits reach both clients."""
        ada = await User.objects.acreate_user("ada")

        async with pubsub_site(box, Counter) as site:
            one = await site.connect_events("/box/", user=ada)
            two = await site.connect_events("/box/", user=ada)
            await one.emit("name", "Ada")
            self.assertEqual(await one.receive(), ("named", "ada"))
            await two.emit("all", [1])
            self.assertEqual(await one.receive(), ("told", [1]))
            self.assertEqual(await two.receive(), ("told", [1]))
            self.assertTrue(await one.receive_nothing())
            await box.emit("told", 2, user=ada)
            self.assertFalse(await one.receive_nothing(5))
            await one.close()

        await ada.arefresh_from_db()
        self.assertEqual(ada.first_name, "Ada")

    async def test_a_class_is_served_and_closes(self):
        """C-17: the class style, and a close with its code."""
        async with pubsub_site(Counter) as site:
            client = await site.connect_events("/counter/5/")
            await client.emit("count")
            self.assertEqual(await client.receive(), ("counted", 6))
            self.assertEqual(await client.receive_close(), 4000)

    async def test_who_is_connected_hears_what_is_emitted_next(self):
        """C-17: however long the open hooks take, except where the test says otherwise."""
        slow, gate = EventSocket("/slow/"), asyncio.Event()

        @slow.on_open
        async def wait(socket):
            if "gate" in socket.query:
                await gate.wait()
            await asyncio.sleep(0.05)
            socket.emit("ready")

        async with pubsub_site(slow) as site:
            for number in range(5):
                client = await site.connect_events("/slow/")
                self.assertEqual(await client.receive(), ("ready", {}))
                await slow.emit("number", number)
                self.assertEqual(await client.receive(), ("number", number))
                await client.close()
            client = await site.connect_events("/slow/?gate", opened=False)
            gate.set()
            self.assertEqual(await client.receive(), ("ready", {}))
