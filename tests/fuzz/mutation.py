"""Bytes that are nearly what a decoder wants, for where nothing leads by coverage."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
WORDS = [
    *(b"{", b"}", b"[", b"]", b'"', b"\\u0000", b"\\ud800", b"null", b"1e999", b"-1"),
    *(
        b"9" * 20,
        b"\r\n",
        b"\n",
        b"\0",
        b":",
        b".",
        b"%00",
        b"%0d%0a",
        b"\xff",
        b"\xc2\x9b",
    ),
    *(b"Host: ", b"Origin: null\r\n", b'Cookie: a="\\000"\r\n', b"Transfer-Encoding: "),
    *(b"\x81\x80\0\0\0\0", b"\x88\x82\0\0\0\0\x03\xed", b"\x82\xff" + b"\x7f" * 8),
]


def seeds(target: str) -> list[bytes]:
    """What the corpus keeps of a target."""
    return [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]


class Mutator:
    """An endless source of inputs, the same for the same seed.

    Args:
        known: What it begins from.
        seed: Of the random numbers.
    """

    def __init__(self, known: Sequence[bytes], seed: int) -> None:
        self._known = list(known) or [b""]
        self._random = random.Random(seed)

    def next(self) -> bytes:
        """One of the known, changed in a few places."""
        data = bytearray(self._random.choice(self._known))
        for _ in range(self._random.choice((1, 1, 2, 3, 8))):
            self._change(data)
        return bytes(data[:100_000])

    def _change(self, data: bytearray) -> None:
        chance = self._random
        at = chance.randint(0, len(data))
        to = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 64)))
        kind = chance.randrange(6)
        if kind == 0:
            data[at:at] = chance.choice(WORDS)
        elif kind == 1:
            data[at:to] = chance.choice(WORDS)
        elif kind == 2:
            del data[at:to]
        elif kind == 3:
            data[at:at] = data[at:to] * chance.choice((1, 2, 50))
        elif kind == 4 and at < len(data):
            data[at] ^= 1 << chance.randrange(8)
        else:
            other = chance.choice(self._known)
            data[at:] = other[chance.randint(0, len(other)) :]
