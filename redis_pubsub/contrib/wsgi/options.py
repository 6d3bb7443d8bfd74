"""What a `WSGIHandler` may spend, and whom it believes: values with defaults.

Settings are read elsewhere and come here as one value.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from ...proxies import TrustedProxies

KIB = 1024
MIB = 1024 * KIB

MAY_BE_ZERO = ("max_waiting", "max_body_bytes", "memory_body_bytes", "close_timeout_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class WSGIOptions:
    """Limits and surroundings of one handler.

    Attributes:
        threads: Requests the application works on at once; fewer while they compute and
            share Python's lock. Each thread keeps its own database connection when
            ``CONN_MAX_AGE`` is not 0.
        max_waiting: Requests that may wait for a thread; one more gets 503.
        max_streams: Streamed responses at once, on threads of their own, so that
            slow downloads never keep pages waiting; one more gets 503.
        max_receiving: Request bodies that may be arriving at once; one more gets 503.
        retry_after_s: ``Retry-After`` of a 503.
        max_body_bytes: Largest request body; a larger one gets 413.
        memory_body_bytes: A larger body goes to a temporary file.
        body_silence_s: A body that brings nothing for so long gets 408.
        body_timeout_s: Time for a body to arrive, plus what ``body_min_bytes_per_s``
            gives for the bytes that came; beyond it 408.
        body_min_bytes_per_s: Slowest upload that is waited for.
        write_timeout_s: A client that takes less than 64 KiB in this time is dropped.
        close_timeout_s: How long `WSGIHandler.close` waits for running requests.
        script_name: Path the application is mounted at, ``""`` for the root.
        url_scheme: ``"http"`` or ``"https"``; ``""`` asks the socket.
        trusted_proxies: Networks whose ``X-Forwarded-*`` count; ``"unix"`` stands
            for unix sockets.
        multiprocess: Whether other processes run the same application.
    """

    threads: int = 8
    max_waiting: int = 64
    max_streams: int = 32
    max_receiving: int = 256
    retry_after_s: int = 2
    max_body_bytes: int = 100 * MIB
    memory_body_bytes: int = 512 * KIB
    body_silence_s: float = 15.0
    body_timeout_s: float = 30.0
    body_min_bytes_per_s: int = 4 * KIB
    write_timeout_s: float = 60.0
    close_timeout_s: float = 10.0
    script_name: str = ""
    url_scheme: str = ""
    trusted_proxies: tuple[str, ...] = TrustedProxies.DEFAULT
    multiprocess: bool = False

    def __post_init__(self) -> None:
        for option in fields(self):
            value = getattr(self, option.name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                continue
            if value < 0 or (value == 0 and option.name not in MAY_BE_ZERO):
                raise ValueError(f"{option.name} is {value!r}, it must be positive")
        if self.script_name and (
            not self.script_name.startswith("/") or self.script_name.endswith("/")
        ):
            raise ValueError(
                f"script_name is {self.script_name!r}; write it like '/site', "
                "or '' for the root"
            )
        if self.url_scheme not in ("", "http", "https"):
            raise ValueError(f"url_scheme is {self.url_scheme!r}, not 'http' or 'https'")
