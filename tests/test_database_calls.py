"""The pool between the event loop and the database, when it closes."""

from __future__ import annotations

import asyncio
import threading

from redis_pubsub import db
from redis_pubsub.db import Orm


async def test_closing_waits_for_the_calls_that_run(until):
    """Whoever closes may then drop tables, or end the process, under nobody's feet."""
    orm = Orm(1, 10)
    begun, go_on, done = threading.Event(), threading.Event(), []

    def call():
        begun.set()
        go_on.wait()
        done.append(True)

    running = asyncio.ensure_future(orm.run(call))
    await until(begun.is_set)
    orm.close()
    closed = asyncio.ensure_future(orm.wait_closed())
    await asyncio.sleep(0)
    assert not closed.done()

    go_on.set()
    await closed
    assert done
    await running


async def test_a_call_that_hangs_holds_up_no_shutdown(until, monkeypatch):
    """It is left behind after a while."""
    monkeypatch.setattr(db, "_CLOSE_S", 0.01)
    orm = Orm(1, 10)
    begun, go_on = threading.Event(), threading.Event()

    def call():
        begun.set()
        go_on.wait()

    running = asyncio.ensure_future(orm.run(call))
    await until(begun.is_set)
    orm.close()
    await orm.wait_closed()
    assert not running.done()

    go_on.set()
    await running
