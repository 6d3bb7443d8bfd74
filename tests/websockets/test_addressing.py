"""One connection, by its id, from anywhere."""

from __future__ import annotations

import asyncio
import sys

import pytest
from django.db import transaction

from redis_pubsub import adisconnect, asend_to, disconnect, send_to
from redis_pubsub.contrib.websockets import websocket


@websocket("/id/")
async def tell_id(ws, params, **kwargs):
    """Says who it is, and stays."""
    await ws.send_str(ws.connection_id)
    async for _ in ws:
        pass


async def opened(served):
    ws = await served.connect("/id/")
    return ws, await ws.receive_str()


async def test_a_value_is_sent_to_one_connection(serve):
    """C-6: that one and no other."""
    served = await serve(tell_id)
    one, id = await opened(served)
    other, other_id = await opened(served)
    assert id != other_id and len(id) == 32

    await asend_to(id, {"just": "you"})
    await asend_to(other_id, "and you")

    assert await one.receive_json() == {"just": "you"}
    assert await other.receive_json() == "and you"


async def test_a_connection_is_reached_in_whichever_process_it_is(serve):
    """C-6: each process looks whether it has it."""
    first, second = await serve(tell_id), await serve(tell_id)
    ws, id = await opened(second)

    async with asyncio.timeout(5):
        await first.engine.hub.confirmed("\x00control")
    await asend_to(id, 1)

    assert await ws.receive_json() == 1


@pytest.mark.may_block(reason="the test itself starts a process")
async def test_another_process_ends_a_connection_with_a_code_of_its_own(serve, site):
    """C-6: kick with code and reason, from a process that serves nothing."""
    served = await serve(tell_id)
    ws, id = await opened(served)
    other, _ = await opened(served)

    script = (
        "import django; from django.conf import settings\n"
        "from tests import settings as base\n"
        f"base.REDIS_PUBSUB = {dict(site)!r}\n"
        "django.setup()\n"
        "from redis_pubsub import disconnect\n"
        f"disconnect(connection={id!r}, code=4001, reason='house rules')\n"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        script,
        env={"DJANGO_SETTINGS_MODULE": "tests.settings", "PYTHONPATH": ":".join(sys.path)},
    )
    assert await process.wait() == 0

    message = await ws.receive(timeout=5)
    assert (message.data, message.extra) == (4001, "house rules")
    assert not other.closed
    await other.close()


async def test_a_code_is_one_of_an_applications(serve):
    """3000 to 4999; others are refused where they are written."""
    with pytest.raises(ValueError, match="3000 to 4999"):
        await adisconnect(connection="x", code=1000)


@pytest.mark.django_db(transaction=True)
async def test_send_to_and_disconnect_wait_for_the_commit(serve):
    """C-6: a rolled-back transaction sends nothing."""
    served = await serve(tell_id)
    ws, id = await opened(served)

    def undone():
        with transaction.atomic():
            send_to(id, "never")
            disconnect(connection=id)
            transaction.set_rollback(True)
        with transaction.atomic():
            send_to(id, "committed")

    await asyncio.to_thread(undone)

    assert await ws.receive_json() == "committed"


@pytest.mark.parametrize("wrong", ["", None, 5])
async def test_an_id_is_asked_for(wrong):
    """`None` is nobody, not everybody."""
    with pytest.raises(TypeError, match="connection_id"):
        await asend_to(wrong, 1)
