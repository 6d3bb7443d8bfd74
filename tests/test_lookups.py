"""`redis_pubsub.auth.lookups`: who waits at the same time shares a query."""

import asyncio
import threading

import pytest
from django.contrib.auth.models import User

from redis_pubsub.auth import Authenticator
from redis_pubsub.auth.lookups import Lookups
from redis_pubsub.db import Orm
from redis_pubsub.exceptions import PoolBusy


class Table:
    """Answers for keys; holds every query back until it is let go."""

    def __init__(self):
        self.queries = []
        self.goes_on = threading.Event()
        self.bad = ""

    def one(self, key):
        self.goes_on.wait(10)
        self.queries.append([key])
        if key == self.bad:
            raise ValueError(key)
        return None if key == "nobody" else [key]

    def many(self, keys):
        self.goes_on.wait(10)
        self.queries.append(list(keys))
        if self.bad in keys:
            raise ValueError(self.bad)
        return {key: [key] for key in keys if key != "nobody"}


@pytest.fixture
def table():
    return Table()


@pytest.fixture
async def orm():
    made = Orm(4, 100)
    yield made
    made.close()


def asking(lookups, *keys):
    return [asyncio.ensure_future(lookups.get(key)) for key in keys]


async def test_those_who_wait_share_a_query(orm, table):
    """The first is asked for at once; all who come meanwhile are one query."""
    lookups = Lookups(orm, table.one, table.many, waiting=100)

    asked = asking(lookups, "a", "b", "c", "d", "nobody")
    await asyncio.sleep(0)
    table.goes_on.set()

    assert await asyncio.gather(*asked) == [["a"], ["b"], ["c"], ["d"], None]
    assert table.queries == [["a"], ["b", "c", "d", "nobody"]]


async def test_a_query_that_hangs_does_not_hold_up_the_others(orm, table):
    """After a moment those who wait are asked for beside it."""
    hangs = threading.Event()

    def one(key):
        hangs.wait(10)
        return [key]

    lookups = Lookups(orm, one, table.many, waiting=100)
    table.goes_on.set()

    first, *others = asking(lookups, "a", "b", "c")
    assert await asyncio.gather(*others) == [["b"], ["c"]]
    assert not first.done()
    hangs.set()
    assert await first == ["a"]


async def test_no_two_callers_get_the_same_object(orm, table):
    """What one caller does to its user is nobody else's business."""
    lookups = Lookups(orm, table.one, table.many, waiting=100)

    asked = asking(lookups, "a", "b", "c", "c", "c")
    await asyncio.sleep(0)
    table.goes_on.set()
    found = await asyncio.gather(*asked)

    assert found[2:] == [["c"]] * 3
    assert len({id(each) for each in found}) == 5


async def test_a_bad_key_is_only_its_senders_trouble(orm, table):
    """Where a shared query fails, each key is looked up for itself."""
    table.bad = "bad"
    lookups = Lookups(orm, table.one, table.many, waiting=100)

    asked = asking(lookups, "a", "b", "c", "bad", "d")
    await asyncio.sleep(0)
    table.goes_on.set()
    found = await asyncio.gather(*asked, return_exceptions=True)

    assert isinstance(found.pop(3), ValueError)
    assert found == [["a"], ["b"], ["c"], ["d"]]


async def test_too_many_who_wait_are_refused(orm, table):
    """The queue has a bound, and its answer is `PoolBusy`."""
    lookups = Lookups(orm, table.one, table.many, waiting=2)

    asked = asking(lookups, "a", "b", "c", "d")
    await asyncio.sleep(0)
    table.goes_on.set()
    found = await asyncio.gather(*asked, return_exceptions=True)

    assert found[:3] == [["a"], ["b"], ["c"]]
    assert isinstance(found[3], PoolBusy)


async def test_who_goes_away_takes_nobody_along(orm, table):
    """A caller that is cancelled is forgotten; the others get their answers."""
    lookups = Lookups(orm, table.one, table.many, waiting=100)

    asked = asking(lookups, "a", "b", "c", "d")
    await asyncio.sleep(0)
    asked[2].cancel()
    asked[0].cancel()
    table.goes_on.set()
    found = await asyncio.gather(*asked, return_exceptions=True)

    assert found[1] == ["b"] and found[3] == ["d"]
    assert table.queries == [["a"], ["b", "d"]]


def known_by_token(token):
    """A ``tokenauth_method`` that can look up several tokens at once."""
    known_by_token.asked.append([token])
    return USERS.get(token)


def known_by_tokens(tokens):
    known_by_token.asked.append(sorted(tokens))
    return {token: USERS[token] for token in tokens if token in USERS}


known_by_token.asked = []
known_by_token.many = known_by_tokens
USERS = {str(number): User(pk=number) for number in range(50)}


async def test_a_token_method_may_look_up_many(orm):
    """Its attribute ``many`` is used for tokens that come at the same time."""
    known_by_token.asked.clear()
    authenticator = Authenticator([f"{__name__}.known_by_token"], orm)

    users = await asyncio.gather(
        *(authenticator.user_of(token) for token in [*USERS, "of nobody"])
    )

    assert users == [*USERS.values(), None]
    assert len(known_by_token.asked) == 2
