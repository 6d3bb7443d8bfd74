"""Secrets in URLs, kept out of logs.

A stream carries its connect command in its address, and a site may take tokens from there.
Whoever logs an address logs it through this.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote_plus

SECRETS = ("token", "ticket", "cf_connect")
"""Parameters whose value is not for logs."""
LOGGERS = (
    "aiohttp.access",
    "aiohttp.server",
    "aiohttp.web",
    "django.request",
    "django.security.csrf",
    "django.server",
    "gunicorn.access",
    "gunicorn.error",
)
"""Who may write a request's address, or an error that quotes it."""
# Control characters, and bytes that were no UTF-8: a log is a text.
_UNPRINTABLE = dict.fromkeys((*range(32), *range(127, 160), *range(0xD800, 0xE000)))
_parameter = re.compile(r"([?&])([^=&\s\"]+)=[^&\s\"]*")
_formatter = logging.Formatter()


def redacted(text: str) -> str:
    """A text with the values of secret parameters left out, however they are spelt."""
    return _parameter.sub(_without_secret, text)


def printable(text: str) -> str:
    """`redacted`, as one line of a log: without control characters."""
    return redacted(text).translate(_UNPRINTABLE)


def _without_secret(match: re.Match[str]) -> str:
    """A parameter as it is logged: by what its name decodes to."""
    name = unquote_plus(match[2])
    return f"{match[1]}{name}=…" if name in SECRETS else match[0]


class RedactingFilter(logging.Filter):
    """Takes secrets out of a record before anybody formats it."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always ``True``: the record is written, changed."""
        record.msg = _clean(record.msg)
        if isinstance(record.args, Mapping):
            record.args = {key: _clean(value) for key, value in record.args.items()}
        elif record.args:
            record.args = tuple(map(_clean, record.args))
        for name, value in list(vars(record).items()):
            # aiohttp gives each part of an access line its own attribute too.
            if name.startswith(("first_request_line", "request_header")):
                setattr(record, name, _clean(value))
        if record.exc_info and not record.exc_text:
            # Formatters take this text where there is one.
            record.exc_text = redacted(_formatter.formatException(record.exc_info))
        return True


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, bytes):
        clean = redacted(value.decode("latin-1"))
        return value if clean.encode("latin-1", "replace") == value else clean
    if isinstance(value, Mapping):
        return {key: _clean(each) for key, each in value.items()}
    if isinstance(value, BaseException) or hasattr(value, "rel_url"):
        # An error that quotes what it could not parse, and a request that shows its path.
        text = str(value)
        clean = redacted(text)
        return value if clean == text else clean
    return value


_filter = RedactingFilter()


def guard_logs() -> None:
    """Redact what these loggers write, in whatever form the application is served."""
    for name in LOGGERS:
        # Adding it twice changes nothing.
        logging.getLogger(name).addFilter(_filter)
