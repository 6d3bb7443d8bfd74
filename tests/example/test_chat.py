"""The example site from outside: gunicorn with two workers, real clients."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.processes import Process

from .conftest import RECEIVE_S, Chat, Socket, site_environment
from .processtree import needs_proc

ALERTS = "/ws/read_messages/"
SUBSCRIPTIONS = "/ws/subscriptions/"


async def _frame(socket: Socket) -> dict[str, object]:
    return await socket.receive_json(timeout=RECEIVE_S)


async def _ready(sockets: list[Socket]) -> list[Socket]:
    """Take the first frame of each: from then on it hears."""
    for socket in sockets:
        assert (await _frame(socket)).keys() <= {"latest", "ready"}
    return sockets


async def _obeyed(socket: Socket, action: str, channel: str) -> dict[str, object]:
    await socket.send_str(json.dumps({"action": action, "channel": channel}))
    return await _frame(socket)


@needs_proc
async def test_a_post_arrives_in_all_tabs_of_its_readers_and_nowhere_else(
    chat: Chat,
) -> None:
    """P-20: Ada's POST reaches every socket of Bob's, on both workers, and her own other
    tab; a third user hears nothing of it."""
    async with chat.people("ada", "bob", "eve") as [ada, bob, eve]:
        letters = await ada.begin("Letters", "Bob")
        gossip = await bob.begin("Gossip", "Eve")
        pages = await _ready(await bob.open_tabs(f"/ws{letters}"))
        alerts = await _ready(await bob.open_tabs(ALERTS))
        [own_tab] = await _ready([await ada.open(f"/ws{letters}")])
        eves_alerts = await _ready(await eve.open_tabs(ALERTS))
        eves_others = await eve.open_tabs(SUBSCRIPTIONS)
        for socket in eves_others:
            # Its reply says that the socket hears everything it should.
            assert "error" in await _obeyed(socket, "subscribe", "nothing of this name")

        await ada.send(letters, "dear Bob")

        for socket in [*pages, own_tab]:
            frame = await _frame(socket)
            assert (frame["body"], frame["author"]["name"]) == ("dear Bob", "Ada Lovelace")
        for socket in alerts:
            frame = await _frame(socket)
            assert frame["message"] == "new message from Ada Lovelace"
            assert (frame["excerpt"], frame["url"]) == ("dear Bob", letters)
        # What Eve hears first was written after it.
        await bob.send(gossip, "have you heard?")
        for socket in eves_alerts:
            assert (await _frame(socket))["excerpt"] == "have you heard?"
        for socket in eves_others:
            assert (await _frame(socket))["payload"]["body"] == "have you heard?"


async def test_a_correspondence_is_closed_to_everybody_else(chat: Chat) -> None:
    """No page, no POST, no live page, no subscription; no socket without a session or
    from a foreign page."""
    async with chat.people("ada", "eve") as [ada, eve]:
        private = await ada.begin("Private", "Bob")
        channel = await ada.channel_of("Private")

        assert (await eve.get(private))[0] == 404
        assert (await eve.submit(f"{private}messages/", body="me too"))[0] == 404
        refusal = await (await eve.open(f"/ws{private}")).receive(timeout=RECEIVE_S)
        assert (refusal.type, refusal.data) == (WSMsgType.CLOSE, 1008)
        answer = await _obeyed(await eve.open(SUBSCRIPTIONS), "subscribe", channel)
        assert answer == {"error": "permission denied", "channel": channel}

        with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
            await ada.open(f"/ws{private}", origin="https://evil.example")
        async with aiohttp.ClientSession() as stranger:
            with pytest.raises(aiohttp.WSServerHandshakeError, match="403"):
                await stranger.ws_connect(f"{chat.url}{ALERTS}")


@needs_proc
async def test_what_is_switched_off_stops_in_all_tabs_until_it_is_switched_on(
    chat: Chat,
) -> None:
    """The "all subscriptions" socket: unsubscribe ends live pages on both workers,
    subscribe brings the channel back."""
    async with chat.people("ada", "bob") as [ada, bob]:
        letters = await ada.begin("Switched", "Bob")
        channel = await bob.channel_of("Switched")
        pages = await _ready(await bob.open_tabs(f"/ws{letters}"))
        switch = await bob.open(SUBSCRIPTIONS)

        answer = await _obeyed(switch, "unsubscribe", channel)

        assert answer == {"ok": "unsubscribe", "channel": channel}
        for socket in pages:
            close = await socket.receive(timeout=RECEIVE_S)
            assert (close.data, close.extra) == (1008, "not subscribed")

        await ada.send(letters, "are you there?")
        assert (await _obeyed(switch, "subscribe", channel))["ok"] == "subscribe"
        page = await bob.open(f"/ws{letters}")
        latest = (await _frame(page))["latest"]
        assert [message["body"] for message in latest] == ["are you there?"]
        await ada.send(letters, "welcome back")
        assert (await _frame(page))["body"] == "welcome back"
        assert (await _frame(switch))["payload"]["body"] == "welcome back"


def test_the_sites_own_tests_pass(tmp_path: Path) -> None:
    """``manage.py test`` needs no Redis: the testing kit brings a broker in memory."""
    with Process("manage.py", "test", "example", env=site_environment(tmp_path)) as tests:
        assert tests.wait() == 0, tests.output


def test_models_and_migrations_agree(tmp_path: Path) -> None:
    """``makemigrations --check`` finds nothing to do."""
    environment = site_environment(tmp_path)
    with Process("manage.py", "makemigrations", "--check", env=environment) as command:
        assert command.wait() == 0, command.output


def test_without_debug_a_secret_key_is_demanded(tmp_path: Path) -> None:
    """Nobody serves the example to others with the key that everybody knows."""
    environment = site_environment(tmp_path) | {"DEBUG": "0", "SECRET_KEY": ""}
    with Process("manage.py", "check", env=environment) as command:
        assert command.wait() != 0
        assert "set SECRET_KEY" in command.output
