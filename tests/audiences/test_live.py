"""What clients of the live endpoint get of models that not everybody sees alike."""

from __future__ import annotations

import pytest
from django.utils.translation import gettext

from redis_pubsub import ahistory, alast, apublish
from redis_pubsub.auth.tokens import connection_token
from redis_pubsub.contrib.live.connection import Connection
from redis_pubsub.exceptions import AudienceRequired
from redis_pubsub.publishing.control import arefresh
from tests.live.client import datas
from tests.live.test_events import last_id, listen
from tests.shop.models import Document, Note

pytestmark = pytest.mark.django_db(transaction=True)

PUBLIC = {"title": "a"}
FULL = {"title": "a", "notes": "n", "tags": []}


@pytest.fixture
async def live(serve_live, board):
    return await serve_live()


async def test_each_audience_gets_its_own_payload(live, write, user, staff):
    """Rendered for each audience: staff sees the notes, others do not."""
    mine, theirs = await live.connect(staff), await live.connect(user)
    await mine.subscribe("board")
    await theirs.subscribe("board")

    await write("a", notes="n")

    assert (await mine.push("pub"))["data"] == FULL
    assert (await theirs.push("pub"))["data"] == PUBLIC


async def test_a_payload_is_rendered_once_for_each_audience(
    live, write, user, staff, monkeypatch
):
    """Never once for each socket."""
    rendered = []
    serialize_for = Document.serialize_for

    def counted(self, audience):
        rendered.append(audience)
        return serialize_for(self, audience)

    monkeypatch.setattr(Document, "serialize_for", counted)
    clients = [await live.connect(who) for who in (user, staff) * 5]
    for client in clients:
        await client.subscribe("board")

    await write("a", notes="n")

    got = [(await client.push("pub"))["data"] for client in clients]
    assert got == [PUBLIC, FULL] * 5
    assert sorted(rendered) == ["public", "staff"]


async def test_what_a_user_may_not_view_is_withheld_deletes_too(live, write, stored, user):
    """The deleted row's snapshot is judged as well."""
    client = await live.connect(user)
    await client.subscribe("board")

    hidden = await write("hidden", is_public=False)
    await stored(hidden.delete)
    shown = await write("shown")
    await stored(shown.delete)

    assert (await client.push("pub"))["data"] == {"title": "shown"}
    gone = await client.push("pub")
    assert gone["data"] == {"title": "shown"} and gone["tags"]["event"] == "delete"
    assert await client.silent() == []
    assert live.engine.metrics["audience_withheld"] == 2


async def test_recovery_and_history_show_the_row_as_it_was_published(
    live, write, stored, user, staff
):
    """Not today's row: of two messages of one row each has its own state."""
    client = await live.connect(user)
    before = await client.subscribe("board")
    await client.ws.close()
    row = await write("a")
    row.title, row.is_public = "secret", False
    await stored(row.save)
    row.title, row.is_public = "b", True
    await stored(row.save)

    again = await live.connect(user)
    since = {"epoch": before["epoch"], "offset": before.get("offset", 0)}
    result = await again.subscribe("board", recover=True, **since)
    history = await again.result("history", channel="board", limit=10)
    whole = await (await live.connect(staff)).result("history", channel="board", limit=10)

    assert result["recovered"] and datas(result["publications"]) == [PUBLIC, {"title": "b"}]
    assert [each["offset"] for each in result["publications"]] == [1, 3]
    assert datas(history["publications"]) == [PUBLIC, {"title": "b"}]
    assert history["offset"] == 3
    assert [each["title"] for each in datas(whole["publications"])] == ["a", "secret", "b"]


async def test_who_sees_nothing_of_what_was_missed_gets_the_top(live, write, user):
    """Else the next return would ask for the same again, and fall out of history."""
    client = await live.connect(user)
    since = await client.subscribe("board")
    for _ in range(3):
        await client.ws.close()
        for _ in range(80):
            await write("hidden", is_public=False)
        client = await live.connect(user)
        asked = {"epoch": since["epoch"], "offset": since.get("offset", 0)}
        since = await client.subscribe("board", recover=True, **asked)
        assert since["recovered"] and "publications" not in since

    assert since["offset"] == 240
    await write("shown")
    assert (await client.push("pub"))["offset"] == 241


async def test_who_comes_back_misses_nothing_of_a_channel_that_goes_on(
    live, write, user, monkeypatch
):
    """What arrives while the past is rendered waits behind the reply."""
    client = await live.connect(user)
    since = await client.subscribe("board")
    await client.ws.close()
    for number in range(5):
        await write(str(number))
    audiences = live.engine.audiences
    shown = audiences.shown

    async def slowly(*args):
        views = await shown(*args)
        for number in range(5, 8):
            await write(str(number))
        return views

    monkeypatch.setattr(audiences, "shown", slowly)
    again = await live.connect(user)
    result = await again.subscribe("board", recover=True, epoch=since["epoch"])

    assert result["recovered"]
    titles = [data["title"] for data in datas(result["publications"])]
    while len(titles) < 8:
        titles.append((await again.push("pub"))["data"]["title"])
    assert titles == list("01234567")
    assert await again.silent() == []


async def test_an_error_withholds_for_that_audience_alone(
    live, write, user, staff, monkeypatch
):
    """Logged and counted, and never sent to anybody wrongly."""
    serialize_for = Document.serialize_for

    def broken(self, audience):
        if audience == "staff":
            raise ValueError("broken")
        return serialize_for(self, audience)

    monkeypatch.setattr(Document, "serialize_for", broken)
    mine, theirs = await live.connect(staff), await live.connect(user)
    await mine.subscribe("board")
    await theirs.subscribe("board")

    await write("a", notes="n")

    assert (await theirs.push("pub"))["data"] == PUBLIC
    assert await mine.silent() == []
    assert live.engine.metrics["audience_errors"] >= 1


@pytest.mark.parametrize("hook", ["can_view", "audience_key"])
async def test_hooks_that_raise_or_are_coroutines_show_nothing(
    live, write, user, monkeypatch, until, hook
):
    """A coroutine would be true whatever it says."""

    async def coroutine(cls, *args):
        return True

    def broken(cls, *args):
        raise ValueError("broken")

    client = await live.connect(user)
    await client.subscribe("board")

    counts = live.engine.metrics
    for withheld, function in enumerate((coroutine, broken), 1):
        monkeypatch.setattr(Document, hook, classmethod(function))
        live.engine.audiences.forget()
        await write("a")
        await until(lambda n=withheld: counts["audience_withheld"] == n)
    monkeypatch.undo()
    live.engine.audiences.forget()
    await write("b")

    assert (await client.push("pub"))["data"] == {"title": "b"}
    assert await client.silent() == []


async def test_a_model_with_can_view_alone_asks_for_each_user(
    live, stored, board, user, staff
):
    """Nobody stands for another unless the class says what they have in common."""
    mine, theirs = await live.connect(user), await live.connect(staff)
    await mine.subscribe("board")
    await theirs.subscribe("board")

    await stored(Note.objects.create, channel=board, owner=user, text="for user")
    await stored(Note.objects.create, channel=board, owner=staff, text="for staff")

    assert (await mine.push("pub"))["data"][0]["fields"]["text"] == "for user"
    assert (await theirs.push("pub"))["data"][0]["fields"]["text"] == "for staff"
    assert await mine.silent() == [] and await theirs.silent() == []


async def test_nobody_is_an_anonymous_user(serve_live, write, board):
    """`user.is_staff` can be asked of those who did not log in, too."""
    live = await serve_live(channels={"board": {"subscribe": "anyone", "history_size": 10}})
    client = await live.connect()
    await client.subscribe("board")

    await write("hidden", is_public=False)
    await write("a", notes="n")

    assert (await client.push("pub"))["data"] == PUBLIC


async def test_a_user_who_changes_gets_what_he_may_see_from_then_on(
    live, write, stored, user, until
):
    """`refresh` asks anew for his audience, in every process."""
    client = await live.connect(user)
    await client.subscribe("board")
    await write("a", notes="n")
    assert (await client.push("pub"))["data"] == PUBLIC
    user.is_staff = True
    await stored(user.save)

    changes = live.engine.hub.viewers.changes
    await arefresh(user)
    await until(lambda: live.engine.hub.viewers.changes > changes)
    await write("a", notes="n")

    assert (await client.push("pub"))["data"] == FULL


async def test_languages_are_audiences_and_are_activated(
    live, write, user, staff, monkeypatch
):
    """Rendered under `translation.override`."""
    monkeypatch.setattr(
        Document,
        "audience_language",
        classmethod(lambda cls, user: "de" if user.is_staff else "fr"),
    )
    monkeypatch.setattr(
        Document, "serialize_for", lambda self, audience: {"word": gettext("Yes")}
    )
    mine, theirs = await live.connect(staff), await live.connect(user)
    await mine.subscribe("board")
    await theirs.subscribe("board")

    await write("a")

    assert (await mine.push("pub"))["data"] == {"word": "Ja"}
    assert (await theirs.push("pub"))["data"] == {"word": "Oui"}


STRICT = {"board": {"audience": True, "publish": "anyone", "history_size": 10}}


async def test_a_channel_of_audiences_takes_no_plain_values(serve_live, write, user):
    """Who may see one is not known, unless its publisher says that all may."""
    live = await serve_live(channels=STRICT)
    client = await live.connect(user)
    await client.subscribe("board")

    with pytest.raises(AudienceRequired, match='audience="everyone"'):
        await apublish("board", {"n": 1})
    await apublish("board", {"n": 2}, audience="everyone")

    assert (await client.push("pub"))["data"] == {"n": 2}
    assert await client.error("publish", channel="board", data={"n": 3}) == 103
    result = await client.result("history", channel="board", limit=10)
    assert datas(result["publications"]) == [{"n": 2}]


async def test_what_was_published_past_this_package_is_withheld_there(
    serve_live, write, user, settings
):
    """A producer in another language, or a process with other settings."""
    live = await serve_live(channels=STRICT)
    client = await live.connect(user)
    await client.subscribe("board")
    settings.REDIS_PUBSUB = settings.REDIS_PUBSUB | {
        "channels": {"board": {"history_size": 9}}
    }

    await apublish("board", {"n": 1}, strict=True)
    await write("a")

    assert (await client.push("pub"))["data"] == PUBLIC
    result = await client.result("history", channel="board", limit=10)
    assert datas(result["publications"]) == [PUBLIC]
    assert live.engine.metrics["audience_unjudged"] == 1


async def test_views_are_not_shown_what_was_published_past_this_package(
    serve_live, write, user, settings
):
    """Neither with a user nor without one."""
    await serve_live(channels=STRICT)
    ours = settings.REDIS_PUBSUB
    settings.REDIS_PUBSUB = ours | {"channels": {"board": {"history_size": 9}}}
    await write("a")
    await apublish("board", {"n": 1}, strict=True)
    assert (await alast("board")).payload == {"n": 1}
    settings.REDIS_PUBSUB = ours

    assert [message.payload for message in await ahistory("board", user=user)] == [PUBLIC]
    assert await ahistory("board") == []
    assert await alast("board") is None


async def test_the_order_of_judged_and_plain_messages_stays(live, write, user):
    """A plain value does not overtake a row that is being rendered."""
    client = await live.connect(user)
    await client.subscribe("board")

    for number in range(10):
        await write(str(number))
        await apublish("board", number)

    got = [(await client.push("pub"))["data"] for _ in range(20)]
    assert got == [
        each for number in range(10) for each in ({"title": str(number)}, number)
    ]


async def test_a_relation_is_shown_as_it_was_published(live, write, stored, staff):
    """Many-to-many relations are part of the snapshot."""
    from tests.shop.models import Tag

    tag = await stored(Tag.objects.create, name="t")
    row = await write("a")
    client = await live.connect(staff)
    since = await client.subscribe("board")
    await client.ws.close()
    await stored(row.tags.add, tag)
    await stored(Document.tags.through.objects.all().delete)

    client = await live.connect(staff)
    result = await client.subscribe(
        "board", recover=True, epoch=since["epoch"], offset=since["offset"]
    )

    assert datas(result["publications"])[0]["tags"] == [tag.pk]


async def test_who_sees_nothing_for_long_is_moved_on(serve_live, write, user):
    """A client's position is that of the last message it got: without a word from time to
    time it would fall out of the history, and load its state for nothing."""
    live = await serve_live(channels={"board": {"history_size": 10}})
    client = await live.connect(user)
    await client.subscribe("board")
    await write("shown")
    at = {"offset": (await client.push("pub"))["offset"]}
    epoch = (await client.result("history", channel="board"))["epoch"]

    for _ in range(30):
        await write("hidden", is_public=False)
        for push in await client.silent():
            assert push["push"]["unsubscribe"]["code"] == 2500
            result = await client.subscribe("board", recover=True, epoch=epoch, **at)
            assert result["recovered"] and "publications" not in result
            at["offset"] = result["offset"]
    await client.ws.close()
    again = await live.connect(user)
    result = await again.subscribe("board", recover=True, epoch=epoch, **at)

    assert result["recovered"] and result["offset"] == 31
    await write("shown")
    assert (await again.push("pub"))["offset"] == 32


async def test_who_is_moved_on_is_so_however_much_was_withheld_at_once(
    serve_live, write, user, monkeypatch
):
    """The connection knows what it withheld, also what the history no longer has."""
    live = await serve_live(channels={"board": {"history_size": 10}})
    client = await live.connect(user)
    await client.subscribe("board")
    await write("shown")
    at = (await client.push("pub"))["offset"]
    epoch = (await client.result("history", channel="board"))["epoch"]
    (connection,) = live.connections
    monkeypatch.setattr(Connection, "come_back_within", lambda *args: None)

    feeding = connection.feeding
    while feeding.passed is None or feeding.passed["board"].position.offset < 25:
        await write("hidden", is_public=False)
    connection.come_back("board")
    assert (await client.push("unsubscribe"))["code"] == 2500
    result = await client.subscribe("board", recover=True, epoch=epoch, offset=at)

    assert result["recovered"] and "publications" not in result
    assert result["offset"] >= 25


@pytest.mark.parametrize("query", ["channel=board", "channel=board&channel=room:1"])
async def test_plain_events_go_on_behind_what_was_rendered(live, write, user, query, until):
    """Behind what a stream was shown of the past comes what is live, in the same form; and
    when it ends, nothing of it is fed any more."""
    token = {"Authorization": f"Bearer {connection_token(user)}"}
    stream = await listen(live, query, **token)
    begin = last_id(await stream.block())
    stream.raw.close()
    await write("missed", notes="n")

    again = await listen(live, query, Last_Event_ID=begin, **token)
    missed = await again.block()
    await write("now", notes="n")
    now = await again.block()

    assert 'data: {"title":"missed"}\n' in missed
    assert 'data: {"title":"now"}\n' in now and "\n: " not in now
    assert last_id(now).partition(",")[0].endswith(":2")
    assert last_id(now).count(",") == begin.count(",")
    again.raw.close()
    await until(lambda: not live.connections)
    assert live.engine.hub.listeners("board") == []
