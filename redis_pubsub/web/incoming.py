"""A client's frames made into messages: strict, bounded and paced. Knows no socket.

Source: RFC 6455, sections 5 and 7.4; what it leaves open is decided against the client.
"""

from __future__ import annotations

from .pace import FRAME_BYTES, Meter, Pace

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_CONTINUATION = 0x0
_IS_FINAL, _RESERVED, _IS_CONTROL, _IS_MASKED = 0x80, 0x70, 0x08, 0x80
_CONTROL_MOST = 125
_NEVER_SENT = (1005, 1006, 1015)
_DEFINED = range(1000, 1015)
_UNDEFINED = (1004,)
_OPEN_TO_ALL = range(3000, 5000)
PROTOCOL_ERROR, NOT_TEXT, TOO_BIG = 1002, 1007, 1009


class Broken(Exception):
    """What came is against the protocol: nothing more is to be read.

    Attributes:
        code: To close with.
        reason: For people.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Flooded(Exception):
    """More came than the client may send."""


class Incoming:
    """What one client sends.

    Args:
        pace: How fast it may send.
        limit_bytes: The largest message, not included.
    """

    __slots__ = ("_at", "_data", "_kind", "_limit_bytes", "_meter", "_needed", "_parts")

    def __init__(self, pace: Pace, limit_bytes: int) -> None:
        self._meter = Meter(pace)
        self._limit_bytes = limit_bytes
        self._data = b""
        self._at = 0
        # A frame that is not whole is not looked at again before so much is there.
        self._needed = 0
        # Of a message in fragments: its kind, and what there is of it.
        self._kind = 0
        self._parts: bytearray | None = None

    def __len__(self) -> int:
        """Bytes that have come and were not taken."""
        return len(self._data) - self._at

    def feed(self, data: bytes) -> None:
        """Take what has arrived."""
        if self._at < len(self._data):
            self._data = self._data[self._at :] + data
        else:
            self._data = data
        self._at = 0

    def rest(self) -> bytes:
        """What was not taken, beginning where a frame does; it is given up."""
        data, self._data = self._data[self._at :], b""
        self._at = 0
        self._parts = None
        return data

    def next(self) -> tuple[int, bytes] | None:
        """The next message or control frame, whole and unmasked: its opcode, and its bytes;
        ``None`` if there is none yet. Text is UTF-8, and a close has a code that clients
        may use, or none.

        Raises:
            Broken: The client breaks the protocol.
            Flooded: It sends more than it may.
        """
        while True:
            found = self._frame()
            if found is None:
                return None
            first, payload = found
            opcode = first & 0x0F
            if opcode & _IS_CONTROL:
                if opcode == CLOSE:
                    _check_close(payload)
                return opcode, payload
            whole = self._assembled(first, opcode, payload)
            if whole is not None:
                return whole

    def _frame(self) -> tuple[int, bytes] | None:
        """The next frame: its first byte, and its payload."""
        data, at = self._data, self._at
        have = len(data) - at
        if have < 2 or have < self._needed:
            return None
        first, size = data[at], data[at + 1] & 0x7F
        is_control = first & _IS_CONTROL
        if first & _RESERVED or first & 0x0F > PONG or 0x2 < first & 0x0F < CLOSE:
            raise Broken(PROTOCOL_ERROR, "a frame of no known kind")
        if data[at + 1] < _IS_MASKED:
            raise Broken(PROTOCOL_ERROR, "a frame without a mask")
        if is_control and (first < _IS_FINAL or size > _CONTROL_MOST):
            raise Broken(PROTOCOL_ERROR, "a control frame in parts, or too long")
        head = 6
        if size > _CONTROL_MOST:
            width = 2 if size == 126 else 8
            head += width
            if have < head - 4:
                return None
            size = int.from_bytes(data[at + 2 : at + 2 + width], "big")
        if not is_control:
            self._check_order(first & 0x0F, size)
        if have < head + size:
            self._needed = head + size
            return None
        self._needed = 0
        self._at = begin = at + head + size
        if not self._meter.take(head + size + FRAME_BYTES, 1, 1 if is_control else 0):
            self._at = at
            raise Flooded
        if begin == len(data):
            self._data, self._at = b"", 0
        payload = data[at + head : begin]
        return first, _unmasked(data[at + head - 4 : at + head], payload)

    def _check_order(self, opcode: int, size: int) -> None:
        """Whether a frame may follow what came before it, and is not too much."""
        begun = 0 if self._parts is None else len(self._parts)
        if (opcode == _CONTINUATION) is (self._parts is None):
            raise Broken(PROTOCOL_ERROR, "fragments out of order")
        if size >= self._limit_bytes - begun:
            raise Broken(TOO_BIG, f"a message of {self._limit_bytes} bytes or more")

    def _assembled(
        self, first: int, opcode: int, payload: bytes
    ) -> tuple[int, bytes] | None:
        """A message, if that was all of it."""
        if opcode != _CONTINUATION:
            self._kind = opcode
            if first < _IS_FINAL:
                self._parts = bytearray(payload)
                return None
        else:
            assert self._parts is not None, "checked with the frame's head"
            self._parts += payload
            if first < _IS_FINAL:
                return None
            payload, self._parts = bytes(self._parts), None
        if self._kind == TEXT and not payload.isascii():
            _check_text(payload)
        return self._kind, payload


def _unmasked(mask: bytes, payload: bytes) -> bytes:
    size = len(payload)
    if not size or mask == b"\x00\x00\x00\x00":
        return payload
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(payload, "little") ^ key).to_bytes(size, "little")


def _check_text(payload: bytes) -> None:
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise Broken(NOT_TEXT, "text that is not UTF-8") from None


def _check_close(payload: bytes) -> None:
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")
    is_defined = code in _DEFINED and code not in (*_UNDEFINED, *_NEVER_SENT)
    if len(payload) < 2 or not (is_defined or code in _OPEN_TO_ALL):
        raise Broken(PROTOCOL_ERROR, "a close code that is none")
    _check_text(payload[2:])
