"""Publishing out of an outbox: what both brokers promise."""

from __future__ import annotations

import dataclasses
import uuid

import pytest

from redis_pubsub.broker import (
    Fence,
    FencedOff,
    HeldBack,
    Read,
    Refused,
    Sent,
    open_blocking,
)
from redis_pubsub.broker.fencing import is_about_redis
from redis_pubsub.exceptions import BrokerUnavailable
from redis_pubsub.messages import Draft, Position, new_header
from redis_pubsub.metrics import Metrics
from redis_pubsub.options import BrokerOptions, ChannelOptions

KEPT = ChannelOptions(history_size=25, history_ttl_s=60)
FIRST = Fence("default", 1, "a")
SECOND = Fence("default", 2, "b")


@pytest.fixture(params=["redis", "memory"])
def options(request, prefix):
    if request.param == "memory":
        return BrokerOptions(url=f"memory://{uuid.uuid4().hex}", prefix=prefix)
    return BrokerOptions(url=request.getfixturevalue("redis_server").url, prefix=prefix)


@pytest.fixture
def broker(options):
    broker = open_blocking(options, Metrics())
    yield broker
    broker.close()


def draft(payload, channel="news", options=KEPT, **header):
    version = header.pop("version", None)
    return Draft(channel, new_header(**header), str(payload).encode(), options, version)


def fenced(broker, drafts, fence, number=1):
    """Publish drafts with numbers from this one on."""
    return broker.publish_fenced([*enumerate(drafts, number)], fence)


def history(broker, channel="news"):
    (read,) = broker.read([Read(channel)])
    return [message.payload for message in read.messages]


def test_each_message_gets_its_position(broker):
    """As without a fence: dense offsets, in this order; older versions are dropped."""
    row = {"model": "shop.order", "pk": "1"}
    outcomes = fenced(
        broker, [draft(1), draft(2, version=2, **row), draft(3, version=1, **row)], FIRST
    )

    assert [outcome.position and outcome.position.offset for outcome in outcomes] == [
        1,
        2,
        None,
    ]
    assert history(broker) == [1, 2]


def test_a_lower_number_publishes_nothing(broker):
    """A holder that stood still while another took over is told the highest number."""
    fenced(broker, [draft(1)], SECOND)

    (late,) = fenced(broker, [draft(2)], FIRST)

    assert late == FencedOff(2)
    assert history(broker) == [1]


def test_of_two_holders_with_one_number_the_second_is_told(broker):
    """Numbers that a rolled-back transaction gave out come twice."""
    fenced(broker, [draft(1)], FIRST)

    same = fenced(broker, [draft(2)], dataclasses.replace(FIRST, holder="other"))
    own = fenced(broker, [draft(3)], FIRST)

    assert same == [FencedOff(1)] and isinstance(own[0], Sent)
    assert history(broker) == [1, 3]


def test_channels_and_outboxes_have_numbers_of_their_own(broker):
    """Two databases may have rows for one channel."""
    fenced(broker, [draft(1)], SECOND)

    elsewhere = fenced(broker, [draft(2, "other")], FIRST)
    another = fenced(broker, [draft(3)], Fence("second", 1, "c"))
    direct = broker.publish([draft(4)])

    assert isinstance(elsewhere[0], Sent) and isinstance(another[0], Sent)
    assert direct[0].offset == 3


@pytest.mark.parametrize("behind", [0, 9, 10, 24])
def test_a_retry_finds_its_message_in_the_history(broker, behind):
    """However many came after it, as long as the history has it."""
    message = draft("1")
    fenced(broker, [message], FIRST)
    fenced(broker, [draft(n) for n in range(behind)], FIRST, number=2)

    (again,) = fenced(broker, [message], SECOND)

    assert again.was_there and again.position.offset == 1
    assert len(history(broker)) == behind + 1


def test_a_retry_of_what_is_not_there_is_sent(broker):
    """Also where the message before it has an id that begins alike."""
    message = draft(2)
    fenced(broker, [draft(1)], FIRST)

    (sent,) = fenced(broker, [message], FIRST)

    assert sent.position.offset == 2 and not sent.was_there


def test_a_number_above_all_others_is_not_looked_for(broker):
    """The twin: the same message under a new number is sent twice."""
    message = draft(1)
    fenced(broker, [message], FIRST)

    fenced(broker, [message], FIRST, number=2)

    assert history(broker) == [1, 1]


def test_without_history_an_id_is_remembered_for_a_while(broker):
    """A retry of what was sent without history is not sent again."""
    message = draft(1, options=ChannelOptions())
    (first,) = fenced(broker, [message], FIRST)

    (again,) = fenced(broker, [message], SECOND)

    assert first == Sent(Position("", 0)) and again == Sent(Position("", 0), was_there=True)


def test_a_value_that_joined_no_history_is_found_once_there_is_one(broker):
    """Sent before the channel's history began, retried after."""
    message = dataclasses.replace(draft(1), joins_history=True)
    fenced(broker, [message], FIRST)
    broker.publish([draft(2)])

    (again,) = fenced(broker, [message], FIRST)

    assert again.was_there
    assert history(broker) == [2]


def test_a_lower_number_that_comes_late_is_sent(broker):
    """A row that was committed after one with a higher number."""
    fenced(broker, [draft(1)], FIRST, number=7)

    (late,) = fenced(broker, [draft(2)], FIRST, number=6)
    (next_,) = fenced(broker, [draft(3)], FIRST, number=7)

    assert not late.was_there and not next_.was_there
    assert history(broker) == [1, 2, 3]


def test_a_signed_message_is_found_too(options):
    """The id stands at the beginning of the header, signed or not."""
    broker = open_blocking(dataclasses.replace(options, envelope_key="k"), Metrics())
    message = draft(1)
    fenced(broker, [message], FIRST)

    (again,) = fenced(broker, [message], FIRST)
    broker.close()

    assert again.was_there


def test_a_message_that_redis_refuses_leaves_no_gap(redis_server, prefix):
    """An error is that message's alone, and the next offset is still free."""
    import redis

    broker = open_blocking(BrokerOptions(url=redis_server.url, prefix=prefix), Metrics())
    client = redis.Redis.from_url(redis_server.url)
    client.set(f"{prefix}:{{bad}}:stream", "not a stream")
    client.hset(f"{prefix}:{{bad}}:meta", mapping={"e": "x", "s": 4})

    outcomes = fenced(broker, [draft(1), draft(2, "bad"), draft(3)], FIRST)

    assert isinstance(outcomes[1], Refused) and "WRONGTYPE" in outcomes[1].error
    assert history(broker) == [1, 3]
    assert client.hget(f"{prefix}:{{bad}}:meta", "s") == b"4"
    client.close()
    broker.close()


def test_what_redis_says_of_itself_is_no_refusal(redis_server, prefix):
    """Read-only, full, loading: every message waits, none is to blame."""
    import redis

    broker = open_blocking(BrokerOptions(url=redis_server.url, prefix=prefix), Metrics())
    client = redis.Redis.from_url(redis_server.url)
    client.config_set("maxmemory", 1)
    try:
        with pytest.raises(BrokerUnavailable, match="maxmemory"):
            fenced(broker, [draft(1)], FIRST)
    finally:
        client.config_set("maxmemory", 0)
        client.close()
        broker.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ("READONLY You can't write against a read only replica.", True),
        ("ERR Error running script (call to f_1): @user_script:9: OOM command not", True),
        ("NOPERM User x has no permissions to run the 'evalsha' command", True),
        ("NOPERM No permissions to access a channel used", False),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", False),
    ],
)
def test_errors_are_told_apart_by_their_words(error, expected):
    """Of Redis, or of the message."""
    assert is_about_redis(error) is expected


def test_what_stands_behind_a_refused_message_is_held_back(redis_server, prefix):
    """In one round trip too: it would have overtaken. Other channels go on, and once the
    one in front is out or given up, it follows."""
    broker = open_blocking(BrokerOptions(url=redis_server.url, prefix=prefix), Metrics())
    refused = draft(1, options=ChannelOptions(history_size="no number"))
    behind = [draft(2), draft(3), draft(4, channel="other")]

    outcomes = fenced(broker, [refused, *behind], FIRST)

    assert isinstance(outcomes[0], Refused)
    assert outcomes[1:3] == [HeldBack(), HeldBack()] and isinstance(outcomes[3], Sent)
    assert history(broker) == []
    assert history(broker, "other") == [4]
    again = fenced(broker, behind[:2], FIRST, 2)
    assert all(isinstance(outcome, Sent) for outcome in again)
    assert history(broker) == [2, 3]
    broker.close()
