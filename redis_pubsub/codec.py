"""Payloads to JSON bytes and back; the check of bytes that came from outside.

A payload is encoded once, by its publisher. Everybody behind splices the bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from .exceptions import InvalidPayload, PayloadTooLarge

_syntax = msgspec.json.Decoder(msgspec.Raw)


def encode(payload: Any, default: Callable[[Any], Any] | None = None) -> bytes:
    """Encode a value as one line of JSON.

    Args:
        payload: JSON types, dataclasses, datetimes, ``Decimal``, ``UUID``, enums.
        default: Turns a value of another type into one of these, or raises
            ``TypeError``.

    Raises:
        TypeError: Something inside is none of these.
        InvalidPayload: It is nested too deeply, or its text is no Unicode.
    """
    try:
        return msgspec.json.encode(payload, enc_hook=default)
    except RecursionError:
        raise InvalidPayload(
            "the payload is nested too deeply, or contains itself"
        ) from None
    except (UnicodeError, msgspec.MsgspecError, OverflowError) as error:
        raise InvalidPayload(f"the payload is not JSON-able: {error}") from error


def decode(raw: bytes) -> Any:
    """The Python values of a payload that `check` let through."""
    return msgspec.json.decode(raw)


def check(raw: bytes) -> None:
    """Let pass only one JSON document, on one line, in UTF-8.

    Runs once per message and process, so that no client ever gets half a document.

    Raises:
        InvalidPayload: It is something else.
    """
    try:
        # msgspec skips over strings without decoding them.
        raw.decode()
        _syntax.decode(raw)
    except (ValueError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidPayload(f"not one JSON document: {error}") from error
    if b"\n" in raw or b"\r" in raw:
        raise InvalidPayload("a payload is one line, this has a line break")


def one_line(document: str | bytes) -> bytes:
    """A JSON text as `check` wants it, white space between its values removed.

    Raises:
        InvalidPayload: The text is not one JSON document.
    """
    try:
        raw = msgspec.json.format(
            document.encode() if isinstance(document, str) else document, indent=-1
        )
    except (UnicodeError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidPayload(f"not one JSON document: {error}") from error
    check(raw)
    return raw


def check_size(raw: bytes, limit_bytes: int) -> None:
    """Refuse a payload over the limit.

    Raises:
        PayloadTooLarge: It is.
    """
    if len(raw) > limit_bytes:
        raise PayloadTooLarge(len(raw), limit_bytes)
