"""What a connect costs, in calls of this package's functions: a number that no other work
of the machine changes."""

from __future__ import annotations

import json
import sys

import pytest

from redis_pubsub.auth.tokens import sign

from .conftest import KEY
from .raw import Raw

CALLS_MOST = 450
"""Of this package alone; those of others come on top of it."""
OURS = "/redis_pubsub/"
OPEN = {"subscribe": "authenticated", "history_size": 0}


@pytest.fixture
async def calls_of_a_connect(serve_live, until):
    """How many calls the connect of one more client takes, with three subscriptions."""
    live = await serve_live(
        live={
            "trust_tokens": True,
            "personal_channels": "redis_pubsub.auth.NoPersonalChannels",
        },
        channels={"shared*": OPEN, "mine*": OPEN},
    )
    token = sign(b'{"sub":"1"}', KEY)

    async def connect(number):
        raw = await Raw.open(live)
        await raw.upgrade()
        wishes = ["shared1", "shared2", f"mine{number}"]
        said = [{"id": 1, "connect": {"token": token}}]
        said += [{"id": i, "subscribe": {"channel": c}} for i, c in enumerate(wishes, 2)]
        raw.send_frame("\n".join(map(json.dumps, said)).encode())
        heard = (await raw.frame())[1].decode().splitlines()
        assert [json.loads(each)["id"] for each in heard] == [1, 2, 3, 4], heard
        assert not any("error" in json.loads(each) for each in heard), heard
        return raw

    async def count():
        raws = [await connect(number) for number in range(3)]
        calls = 0

        def note(frame, event, argument):
            nonlocal calls
            calls += event == "call" and OURS in frame.f_code.co_filename

        sys.setprofile(note)
        try:
            raws.append(await connect(3))
        finally:
            sys.setprofile(None)
        for raw in raws:
            raw.close()
        return calls

    return count


async def test_a_connect_is_a_few_hundred_calls(calls_of_a_connect):
    """From the accepted connection to the last reply: a storm of clients that come back is
    as long as this is much."""
    assert 100 < await calls_of_a_connect() < CALLS_MOST
