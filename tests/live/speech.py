"""What clients may say: commands, well-formed and not, for both forms."""

from __future__ import annotations

import json

from centrifuge.protocol import client_pb2
from hypothesis import strategies as st

from redis_pubsub.auth.tokens import sign
from redis_pubsub.contrib.live.protocol.commands import KINDS
from redis_pubsub.contrib.live.protocol.protobuf import _varint

from .conftest import KEY

FRAMES_AT_ONCE = 25


GOOD_NAMES = ["room:1", "room:2", "joins:1", "lobby:1", "user:7", "secret", 'quo"té']
BAD_NAMES = ["", "\x00control", "a" * 256, "tab\t"]
channels = st.sampled_from([*GOOD_NAMES, *BAD_NAMES])
numbers = st.one_of(
    st.integers(0, 5),
    st.sampled_from([-1, 2**31, 2**32 - 1, 2**32, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]),
)
texts = st.sampled_from(["", "_", "epoch", "js", "\u2028", "x" * 200, "echo", "é", "\x00"])
tokens = st.sampled_from(
    [
        "",
        "junk",
        "a.b.c",
        sign(b'{"sub":"7"}', KEY),
        sign(b'{"sub":"7","exp":1}', KEY),
        sign(b'{"sub":"7","exp":1e300}', KEY),
        sign(b'{"sub":"8"}', KEY),
        sign(b'{"sub":"","channel":"vip"}', KEY),
        sign(b'{"sub":"7","channel":"room:1","info":[1]}', KEY),
        sign(b'{"sub":"7","channel":"room:1","exp":1}', KEY),
    ]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
booleans = st.booleans()
sub = {
    "recover": booleans,
    "epoch": texts,
    "offset": numbers,
    "flag": numbers,
    "positioned": booleans,
    "recoverable": booleans,
    "join_leave": booleans,
    "data": anything,
    "delta": texts,
}
FIELDS = {
    "connect": {
        "token": tokens,
        "data": anything,
        "name": texts,
        "headers": st.dictionaries(texts, tokens, max_size=2),
        "subs": st.dictionaries(
            channels, st.fixed_dictionaries({}, optional=sub), max_size=2
        ),
    },
    "subscribe": {"token": tokens, "type": st.integers(0, 1), "tf": anything, **sub},
    "publish": {"data": anything},
    "history": {
        "limit": numbers,
        "reverse": booleans,
        "since": st.fixed_dictionaries({}, optional={"offset": numbers, "epoch": texts}),
    },
    "rpc": {"method": texts, "data": anything},
    "send": {"data": anything},
    "refresh": {"token": tokens},
    "sub_refresh": {"token": tokens},
}
HAVE_CHANNEL = set(KINDS) - {"connect", "rpc", "send", "refresh", "ping"}


@st.composite
def requests(draw):
    """Kind, fields, and an id: mostly well-formed."""
    kind = draw(st.sampled_from([kind for kind in KINDS if kind != "connect"]))
    required = {"channel": channels} if kind in HAVE_CHANNEL else {}
    fields = draw(st.fixed_dictionaries(required, optional=FIELDS.get(kind, {})))
    return kind, fields, draw(st.integers(1, 2**32 - 1))


@st.composite
def json_commands(draw):
    kind, fields, command_id = draw(requests())
    if draw(st.integers(0, 30)) == 0:
        name = draw(st.sampled_from([*fields, "x"]))
        fields = {**fields, name: draw(anything)}
    command = {"id": command_id, kind: fields}
    if kind == "send":
        del command["id"]
    return json.dumps(command).encode()


@st.composite
def protobuf_commands(draw):
    kind, fields, command_id = draw(requests())
    command = client_pb2.Command(id=0 if kind == "send" else command_id)
    _write(getattr(command, kind), fields)
    data = command.SerializeToString()
    return _varint(len(data)) + data


def _write(message, fields):
    message.SetInParent()
    for name, value in fields.items():
        known = message.DESCRIPTOR.fields_by_name.get(name)
        try:
            if known is None or name == "tf":
                continue
            if name == "since":
                _write(message.since, value)
            elif known.type == known.TYPE_BYTES:
                setattr(message, name, json.dumps(value).encode())
            else:
                setattr(message, name, value)
        except (ValueError, TypeError):
            continue  # A number that the field cannot hold.


@st.composite
def conversations(draw, commands, separator):
    """Frames of a few commands each, many of them with bytes changed, cut or put in."""
    known = draw(st.lists(commands, min_size=3, max_size=5))
    chance = draw(st.randoms(use_true_random=False))
    frames = []
    for _ in range(FRAMES_AT_ONCE):
        frame = bytearray(separator.join(chance.choices(known, k=chance.randint(1, 3))))
        for _ in range(chance.choice((0, 0, 0, 1, 1, 3))):
            place, kept = chance.randrange(len(frame) + 1), chance.randint(0, 1)
            byte = chance.choice((b"", bytes([chance.randrange(256)]), b"\x00", b'"'))
            frame[place : place + kept] = byte
        frames.append(bytes(frame))
    return frames
