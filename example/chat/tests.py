"""The chat's own tests: ``python manage.py test example``. They need no Redis."""

from __future__ import annotations

from typing import Any

from aiohttp import WSMsgType
from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.test import SimpleTestCase, TestCase, override_settings

from example.database import database
from redis_pubsub.testing import captured_messages, pubsub_site

from .authorization import TYPING, may
from .models import Correspondence, Message

FOLLOW = "/ws/correspondences/{}/"
LIVE = "/connection/websocket"


class ChatTestCase(TestCase):
    @classmethod
    def setUpTestData(cls) -> None:
        create = get_user_model().objects.create_user
        cls.ada = create("ada", first_name="Ada", last_name="Lovelace")
        cls.bob = create("bob")
        cls.letters = Correspondence.objects.create(subject="Letters")
        cls.letters.participants.add(cls.ada)

    def subscribers(self, correspondence: Correspondence) -> set[str]:
        active = correspondence.channel.subscribers.filter(active=True)
        return set(active.values_list("subscriber__username", flat=True))


class ParticipantsTests(ChatTestCase):
    def test_who_is_added_is_subscribed_and_who_is_removed_is_not(self) -> None:
        self.letters.participants.add(self.bob)
        self.assertEqual(self.subscribers(self.letters), {"ada", "bob"})

        self.letters.participants.remove(self.ada)
        self.assertEqual(self.subscribers(self.letters), {"bob"})

        self.letters.participants.clear()
        self.assertEqual(self.subscribers(self.letters), set())

    def test_the_relation_works_from_the_user_as_well(self) -> None:
        other = Correspondence.objects.create(subject="Other")

        self.bob.correspondences.add(self.letters, other)
        self.assertEqual(self.subscribers(other), {"bob"})

        self.bob.correspondences.remove(self.letters)
        self.assertEqual(self.subscribers(self.letters), {"ada"})

        self.bob.correspondences.clear()
        self.assertEqual(self.subscribers(other), set())

    def test_who_comes_back_is_subscribed_again(self) -> None:
        self.letters.participants.set([self.bob])
        self.letters.participants.set([self.ada])

        self.assertEqual(self.subscribers(self.letters), {"ada"})


class AuthorizationTests(ChatTestCase):
    def allowed(self, user: Any, channel: str) -> set[str]:
        actions = ("subscribe", "publish", "presence", "history")
        return {
            action for action in actions if may(user=user, channel=channel, action=action)
        }

    def test_participants_hear_and_see_but_do_not_publish_messages(self) -> None:
        channel = self.letters.channel.name

        self.assertEqual(
            self.allowed(self.ada, channel), {"subscribe", "presence", "history"}
        )
        self.assertEqual(self.allowed(self.bob, channel), set())
        self.assertEqual(self.allowed(None, channel), set())

    def test_participants_say_that_they_are_typing(self) -> None:
        channel = f"{TYPING}{self.letters.channel.name}"

        self.assertEqual(self.allowed(self.ada, channel), {"subscribe", "publish"})
        self.assertEqual(self.allowed(self.bob, channel), set())
        self.assertEqual(self.allowed(self.ada, f"{TYPING}nothing"), set())

    def test_other_channels_are_left_to_the_packages_rules(self) -> None:
        self.assertIsNone(may(user=self.ada, channel="news", action="subscribe"))


class MessageTests(ChatTestCase):
    def test_a_message_is_published_on_its_correspondence_ready_to_be_shown(self) -> None:
        with captured_messages() as messages:
            message = Message.objects.create(
                correspondence=self.letters, author=self.ada, body="Dear <Bob>"
            )

        [published] = messages
        self.assertEqual(published.channel, self.letters.channel.name)
        self.assertEqual(published.event, "create")
        self.assertEqual(
            published.payload,
            {
                "id": message.pk,
                "author": {"id": self.ada.pk, "name": "Ada Lovelace"},
                "body": "Dear <Bob>",
                "sent_at": message.sent_at.isoformat(),
            },
        )


# A page asks where its channel stands.
@override_settings(REDIS_PUBSUB={**settings.REDIS_PUBSUB, "url": "memory://pages"})
class PageTests(ChatTestCase):
    def test_only_participants_see_and_send(self) -> None:
        page = self.letters.get_absolute_url()
        self.client.force_login(self.bob)

        self.assertEqual(self.client.get(page).status_code, 404)
        sent = self.client.post(f"{page}messages/", {"body": "let me in"})
        self.assertEqual(sent.status_code, 404)
        self.assertFalse(Message.objects.exists())

    def test_a_page_says_where_its_channel_stood_before_its_messages_were_read(
        self,
    ) -> None:
        self.client.force_login(self.ada)

        page = self.client.get(self.letters.get_absolute_url())

        content = page.content.decode()
        self.assertIn("data-live-config", content)
        place = content.index("data-live-position")
        self.assertLess(place, content.index("data-messages"))
        self.assertIn(self.letters.channel.name, content[place : place + 120])

    def test_a_plain_form_comes_back_to_the_page(self) -> None:
        self.client.force_login(self.ada)

        page = self.letters.get_absolute_url()
        sent = self.client.post(
            f"{page}messages/",
            {"body": " <b>hi</b> "},
            HTTP_ACCEPT="text/html",
            follow=True,
        )

        self.assertRedirects(sent, page)
        self.assertContains(sent, "&lt;b&gt;hi&lt;/b&gt;", count=2)

    def test_an_empty_message_is_refused_with_words(self) -> None:
        self.client.force_login(self.ada)
        url = f"{self.letters.get_absolute_url()}messages/"

        script = self.client.post(url, {"body": " "}, HTTP_ACCEPT="application/json")
        self.assertEqual(script.status_code, 400)
        self.assertEqual(script.json(), {"error": "Write something first."})
        form = self.client.post(url, {"body": " "}, HTTP_ACCEPT="text/html")
        self.assertContains(form, "Write something first.", status_code=400)

    def test_a_new_correspondence_has_its_beginner_in_it(self) -> None:
        self.client.force_login(self.bob)

        url = "/correspondences/new/"
        page = self.client.post(url, {"subject": "Tea", "participants": [self.ada.pk]})

        tea = Correspondence.objects.get(subject="Tea")
        self.assertRedirects(page, tea.get_absolute_url())
        self.assertEqual(self.subscribers(tea), {"ada", "bob"})

    def test_strangers_are_asked_to_log_in(self) -> None:
        for page in ("/", self.letters.get_absolute_url(), "/subscriptions/"):
            self.assertRedirects(self.client.get(page), f"/login/?next={page}")


class SocketTests(ChatTestCase):
    async def test_who_follows_gets_the_latest_and_what_comes(self) -> None:
        await Message.objects.acreate(
            correspondence=self.letters, author=self.ada, body="first"
        )
        async with pubsub_site() as site:
            await site.commit()
            ws = await site.connect(FOLLOW.format(self.letters.pk), user=self.ada)
            frame = await ws.receive_json(timeout=5)
            self.assertEqual([each["body"] for each in frame["latest"]], ["first"])

            await Message.objects.acreate(
                correspondence=self.letters, author=self.ada, body="second"
            )
            await site.commit()

            frame = await ws.receive_json(timeout=5)
            self.assertEqual(frame["body"], "second")
            await ws.close()

    async def test_a_stranger_is_turned_away(self) -> None:
        async with pubsub_site() as site:
            for pk in (self.letters.pk, 0, 10**30):
                ws = await site.connect(FOLLOW.format(pk), user=self.bob)
                frame = await ws.receive(timeout=5)

                self.assertEqual(frame.type, WSMsgType.CLOSE)
                self.assertEqual((frame.data, frame.extra), (1008, "not subscribed"))


class LiveTests(ChatTestCase):
    async def connect(self, site: Any, user: Any, **subscribe: Any) -> tuple[Any, Any]:
        """A live connection that hears the correspondence, and what it was told first."""
        ws = await site.connect(LIVE, user=user)
        await ws.send_json({"id": 1, "connect": {}})
        self.assertIn("connect", await self.reply(ws, 1))
        wish = {"channel": self.letters.channel.name, **subscribe}
        await ws.send_json({"id": 2, "subscribe": wish})
        return ws, (await self.reply(ws, 2))["subscribe"]

    async def reply(self, ws: Any, number: int) -> dict[str, Any]:
        while True:
            frame = await ws.receive_json(timeout=5)
            if frame.get("id") == number:
                return frame

    async def test_participants_see_each_other(self) -> None:
        await sync_to_async(self.letters.participants.add)(self.bob)
        async with pubsub_site() as site:
            await site.commit()
            ada, _ = await self.connect(site, self.ada)
            bob, _ = await self.connect(site, self.bob)

            await bob.send_json(
                {"id": 3, "presence": {"channel": self.letters.channel.name}}
            )

            there = (await self.reply(bob, 3))["presence"]["presence"]
            users = {client["user"] for client in there.values()}
            self.assertEqual(users, {str(self.ada.pk), str(self.bob.pk)})
            await ada.close()
            await bob.close()

    async def test_who_was_away_gets_what_was_written_meanwhile(self) -> None:
        async with pubsub_site() as site:
            await site.commit()
            ws, before = await self.connect(site, self.ada)
            await ws.close()
            for body in ("one", "two"):
                await Message.objects.acreate(
                    correspondence=self.letters, author=self.ada, body=body
                )
            await site.commit()

            place = {"epoch": before["epoch"], "offset": before.get("offset", 0)}
            ws, after = await self.connect(site, self.ada, recover=True, **place)

            self.assertTrue(after["recovered"])
            missed = [each["data"]["body"] for each in after["publications"]]
            self.assertEqual(missed, ["one", "two"])
            await ws.close()

    async def test_who_is_taken_out_hears_no_more(self) -> None:
        """No row of the package gave him the right, so the site says that it ended."""
        async with pubsub_site() as site:
            await site.commit()
            ws, _ = await self.connect(site, self.ada)

            await sync_to_async(self.letters.participants.remove)(self.ada)
            await site.commit()

            push = (await self.next_push(ws))["unsubscribe"]
            self.assertEqual(push["code"], 2000)
            await ws.close()

    async def next_push(self, ws: Any) -> dict[str, Any]:
        """The next one that is neither a join nor a ping."""
        while True:
            push = (await ws.receive_json(timeout=5)).get("push", {})
            if push.keys() - {"channel", "join"}:
                return push


class DatabaseTests(SimpleTestCase):
    def test_urls_of_each_kind_are_understood(self) -> None:
        sqlite = database("sqlite:////var/lib/chat.sqlite3")
        self.assertEqual(sqlite["NAME"], "/var/lib/chat.sqlite3")
        self.assertEqual(database("sqlite:///chat.sqlite3")["NAME"], "chat.sqlite3")
        postgres = database("postgres://ada:p%40ss@db:5433/chat?sslmode=require")
        self.assertEqual(
            postgres,
            {
                "ENGINE": "django.db.backends.postgresql",
                "NAME": "chat",
                "USER": "ada",
                "PASSWORD": "p@ss",
                "HOST": "db",
                "PORT": "5433",
                "OPTIONS": {"sslmode": "require"},
            },
        )
        mysql = database("mysql://db/chat")
        self.assertEqual(mysql["ENGINE"], "django.db.backends.mysql")

    def test_others_are_refused(self) -> None:
        for url in ("", "oracle://db/chat", "postgres://db"):
            with self.assertRaisesRegex(ValueError, "DATABASE_URL must be"):
                database(url)
