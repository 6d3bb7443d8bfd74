"""The clients in C see what a server does wrong: what they verify is verified here."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ..generator import Dialect, Sockets, Step
from ..payloads import payload

_ANSWER = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def framed(body: bytes) -> bytes:
    return bytes([0x81, len(body)]) + body


@contextmanager
def server(sends: list[bytes]) -> Iterator[tuple[int, threading.Event]]:
    """Greets one client, and sends it these bytes, one by one, when it is told to."""
    goes_on = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            client, _ = listening.accept()
            with client:
                client.recv(4096)
                client.sendall(_ANSWER + framed(b'"ready"'))
                goes_on.wait(10)
                for data in sends:
                    client.sendall(data)
                client.recv(4096)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1], goes_on
        goes_on.set()
        thread.join(10)


def seen(sends: list[bytes], *, is_stream: bool = False) -> dict[str, object]:
    """What the clients say of a round of three messages."""
    with server(sends) as (port, goes_on), Sockets() as clients:
        steps = (Step(wait='"ready"'),)
        clients.speak(Dialect("/", steps, is_stream=is_stream))
        clients.connect(port, 1, within_s=5)
        clients.expect(0, 3, 100)
        goes_on.set()
        return clients.collect(1.0)


@pytest.fixture
def messages() -> list[bytes]:
    return [payload(number, 100) for number in range(3)]


def test_every_message_in_order_is_a_whole_round(messages: list[bytes]) -> None:
    """Also where frames are cut in pieces, and something stands around the payload."""
    whole = b"".join(framed(b"[" + each + b"]") for each in messages)
    found = seen([whole[:5], whole[5:150], whole[150:]])

    assert (found["complete"], found["deliveries"], found["disordered"]) == (1, 3, 0)
    assert found["late"] == found["malformed"] == found["unexpected"] == 0


def test_messages_may_begin_and_end_inside_of_frames(messages: list[bytes]) -> None:
    """NATS' frames are pieces of a stream."""
    stream = b"".join(b"MSG news 1 100\r\n" + each + b"\r\n" for each in messages)
    cuts = [stream[:90], stream[90:200], stream[200:300], stream[300:]]
    found = seen([framed(cut) for cut in cuts], is_stream=True)

    assert (found["complete"], found["deliveries"], found["disordered"]) == (1, 3, 0)


def test_a_changed_order_is_seen(messages: list[bytes]) -> None:
    """Every message came, and the round is not whole."""
    first, second, third = map(framed, messages)

    assert seen([first, third, second])["disordered"]


def test_a_missing_message_is_seen(messages: list[bytes]) -> None:
    """The last of three never comes: the round is late and not complete."""
    found = seen([framed(each) for each in messages[:2]])

    assert (found["complete"], found["late"], found["deliveries"]) == (0, 1, 2)


def test_a_message_that_is_there_twice_is_seen(messages: list[bytes]) -> None:
    """A repetition is no delivery of the next message."""
    first, second, _ = map(framed, messages)

    assert seen([first, first, second])["disordered"]


def test_a_damaged_message_is_seen(messages: list[bytes]) -> None:
    """One byte of the filler is another."""
    messages[1] = messages[1].replace(b"xxxx", b"xxYx", 1)

    assert seen([framed(each) for each in messages])["malformed"] == 1


def test_a_server_that_closes_is_seen(messages: list[bytes]) -> None:
    """A close frame in the middle ends the round without waiting."""
    found = seen([framed(messages[0]), b"\x88\x02\x03\xe8"])

    assert (found["dead"], found["complete"]) == (1, 0)
