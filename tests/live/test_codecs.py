"""The JSON form: what is left out, and what is always there."""

from __future__ import annotations

import pytest
from msgspec import Raw

from redis_pubsub.codes import Disconnects, Errors, Unsubscribes
from redis_pubsub.contrib.live.protocol import json as json_codec
from redis_pubsub.contrib.live.protocol.results import (
    ClientInfo,
    ConnectResult,
    Empty,
    HistoryResult,
    PresenceResult,
    PresenceStatsResult,
    RPCResult,
    SubRefreshResult,
    SubscribeResult,
    some,
)
from redis_pubsub.messages import Message, Position, new_header

from .replies import INFO, a_message, in_json

ALWAYS_THERE = [
    ("presence", PresenceResult({}), {"presence": {}}),
    ("presence_stats", PresenceStatsResult(0, 0), {"num_clients": 0, "num_users": 0}),
    ("history", HistoryResult([], "e", 0), {"publications": [], "epoch": "e", "offset": 0}),
    ("publish", Empty(), {}),
    ("unsubscribe", Empty(), {}),
    ("subscribe", SubscribeResult(), {}),
    ("rpc", RPCResult(Raw(b"null")), {"data": None}),
    ("rpc", RPCResult(), {}),
    ("sub_refresh", SubRefreshResult(True, 1), {"expires": True, "ttl": 1}),
    ("sub_refresh", SubRefreshResult(), {}),
]


@pytest.mark.parametrize(("kind", "result", "expected"), ALWAYS_THERE)
def test_zeros_are_left_out_but_where_a_client_stumbles_without_them(
    kind, result, expected
):
    """§2: the list of fields that are always present."""
    assert in_json(json_codec.reply(7, kind, result)) == {"id": 7, kind: expected}


def test_infos_always_have_user_and_client():
    """§2: `user` is "" for nobody; what else there is to say only if it is something."""
    nobody = PresenceResult({"c": Raw(json_codec.encode(ClientInfo("", "c")))})
    somebody = ClientInfo("7", "c", some(Raw(b"[1]")), some(Raw(b"")))

    assert in_json(json_codec.reply(1, "presence", nobody))["presence"] == {
        "presence": {"c": {"user": "", "client": "c"}}
    }
    assert in_json(json_codec.encode(somebody)) == {
        "user": "7",
        "client": "c",
        "conn_info": [1],
    }


def test_a_connect_result_says_no_more_than_there_is():
    """§4: session and node only on streams, expires only to be refreshed."""
    least = ConnectResult(client="c", version="v")
    subs = {"user:7": SubscribeResult(publications=[a_message(offset=3)], recovered=True)}
    most = ConnectResult("c", "v", True, 900, subs=subs, ping=25, pong=True)

    assert in_json(json_codec.reply(1, "connect", least))["connect"] == {
        "client": "c",
        "version": "v",
    }
    assert in_json(json_codec.reply(1, "connect", most))["connect"] == {
        "client": "c",
        "version": "v",
        "expires": True,
        "ttl": 900,
        "ping": 25,
        "pong": True,
        "subs": {
            "user:7": {
                "recovered": True,
                "publications": [{"data": {"n": 1}, "offset": 3}],
            }
        },
    }


def test_errors_and_ends_have_code_and_text():
    """§2: PY stops on a missing reason; `temporary` only where it is so."""
    assert in_json(json_codec.error(3, Errors.PERMISSION_DENIED)) == {
        "id": 3,
        "error": {"code": 103, "message": "permission denied"},
    }
    assert in_json(json_codec.error(3, Errors.INTERNAL))["error"]["temporary"] is True
    assert in_json(json_codec.disconnect_push(Disconnects.SLOW)) == {
        "push": {"disconnect": {"code": 3008, "reason": "slow"}}
    }


def test_publications_have_offset_info_and_tags_where_there_are_any():
    """§6: no `epoch` in a publication; tags are texts; payloads are embedded."""
    plain = a_message(b'"\xe2\x80\xa8"')
    full = a_message(offset=9, event="update", model="shop.message", pk="5", info=INFO)

    assert in_json(json_codec.push(plain)) == {
        "push": {"channel": "room:1", "pub": {"data": "\u2028"}}
    }
    assert in_json(json_codec.push(full))["push"]["pub"] == {
        "data": {"n": 1},
        "offset": 9,
        "info": INFO,
        "tags": {"event": "update", "model": "shop.message", "pk": "5"},
    }


def test_a_channel_with_quotes_stays_one_name():
    """Names are user's text: spliced in, but escaped."""
    name = 'a"b\\c\u2028é'
    message = Message(name, new_header(), b"1", Position("", 0))

    assert in_json(json_codec.push(message))["push"]["channel"] == name
    assert in_json(json_codec.presence_push(name, "join", b"{}"))["push"]["channel"] == name
    push = in_json(json_codec.unsubscribe_push(name, Unsubscribes.SERVER))["push"]
    assert push["channel"] == name and push["unsubscribe"]["code"] == 2000
