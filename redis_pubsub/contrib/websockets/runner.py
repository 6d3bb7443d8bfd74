"""An aiohttp runner that ends well: sockets are closed while their clients are heard."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import http_parser, web
from aiohttp.web_log import AccessLogger, KeyMethod

from ...engine import Engine
from ...web.accepting import accept_one_by_one
from ...web.connections import Connections
from ...web.entrance import Entrance
from ...web.keys import ENGINE, QUIET
from ...web.lines import FewOfAKind
from ...web.newcomers import Newcomers
from ...web.redaction import printable
from ...web.requests import StrictServer, strict
from .siblings import Siblings

KEEPALIVE_S = 75.0
SHUTDOWN_S = 10.0
SUCCESSORS_S = 15.0
"""How long new workers may take to begin, until this one stops to accept anyway. It and
``drain_s`` together are less than the 30 s after which gunicorn takes a worker for hung."""
ACCEPTED_S = 2.0
"""How long a connection that was just accepted may take for its request."""
ACCEPTED_LEAST_S = 0.1
_LOOK_S = 0.02
MAX_LINE_BYTES = 65_536
"""Of a request line: that of a stream holds a whole command."""


class RedactingAccessLogger(AccessLogger):
    """Writes ``token=…`` where a URL carries a token, or what may hold one: in
    the request line, the referrer, and whatever else the format asks for. Of health
    checks and scrapes it writes only those that fail."""

    def __init__(self, logger: logging.Logger, log_format: str = AccessLogger.LOG_FORMAT):
        super().__init__(logger, log_format)
        # aiohttp looks its own methods up, not a subclass's, and shares what it found.
        self._methods = [
            KeyMethod(key, functools.partial(_redacted, method))
            for key, method in self._methods
        ]

    def log(
        self, request: web.BaseRequest, response: web.StreamResponse, time: float
    ) -> None:
        if not (request.get(QUIET) and response.status == 200):
            super().log(request, response, time)


def _redacted(method: Callable[..., Any], *args: Any) -> Any:
    value = method(*args)
    if not isinstance(value, str):
        return value
    return printable(value)


class Runner(web.AppRunner):
    """What gunicorn's stock aiohttp worker runs; see `get_runner_factory`.

    Args:
        app: The application.
        drain_s: How long sockets may take to close.
        access_log: Where requests are logged; by default gunicorn's access log, if it
            has one.
        siblings: Workers, for whose younger ones this one goes on at its end.
    """

    __slots__ = ("_drain_s", "_entrance", "_lines", "_siblings")

    def __init__(
        self,
        app: web.Application,
        *,
        drain_s: float,
        access_log: logging.Logger | None = None,
        siblings: Siblings | None = None,
    ) -> None:
        refuse_slow_parser()
        if access_log is None:
            gunicorns = logging.getLogger("gunicorn.access")
            access_log = gunicorns if gunicorns.handlers else None
        super().__init__(
            app,
            access_log=access_log,
            access_log_class=RedactingAccessLogger,
            # Django sees bodies as they were sent, and their size is what limits measure.
            auto_decompress=False,
            keepalive_timeout=KEEPALIVE_S,
            max_line_size=MAX_LINE_BYTES,
            shutdown_timeout=SHUTDOWN_S,
        )
        self._drain_s = drain_s
        self._lines: FewOfAKind | None = None
        self._entrance: Entrance | None = None
        self._siblings = siblings

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        engine = self.app.get(ENGINE)
        if engine is None:
            return strict(server, lambda: None)
        return strict(server, lambda: engine.metrics.count("requests_refused"))

    async def setup(self) -> None:
        await super().setup()
        accept_one_by_one(asyncio.get_running_loop())
        engine = self.app.get(ENGINE)
        if engine is not None:
            self._watch_strangers(engine)
            await self._open_entrance(engine)
        if threading.current_thread() is threading.main_thread():
            # The worker looks once a second whether it should end; SIGINT wakes it.
            asyncio.get_running_loop().add_signal_handler(
                signal.SIGTERM, signal.raise_signal, signal.SIGINT
            )

    def _watch_strangers(self, engine: Engine) -> None:
        """What can be done to a server before it knows who does it."""
        self._lines = FewOfAKind(lambda: engine.metrics.count("log_lines_dropped"))
        self._lines.install()

    async def _open_entrance(self, engine: Engine) -> None:
        server = self.server
        assert isinstance(server, StrictServer), "made by setup()"
        newcomers = Newcomers(
            engine.config.limits.first_request_s,
            lambda: engine.metrics.count("first_requests_late"),
        )
        self._entrance = server.entrance = Entrance(server, newcomers)
        # Where every request is to be seen or logged, all of them go the long way.
        if not self.app.middlewares and self._kwargs["access_log"] is None:
            await self._entrance.find_ways(self.app)

    def _reg_site(self, site: web.BaseSite) -> None:
        super()._reg_site(site)
        if self._siblings is not None:
            self._siblings.serve()

    async def cleanup(self) -> None:
        """Stop to accept, once others do; close the sockets, then what aiohttp does."""
        if self._siblings is not None:
            await self._siblings.wait_for_younger(SUCCESSORS_S)
        for site in list(self.sites):
            await site.stop()
        engine = self.app.get(ENGINE)
        if engine is not None:
            await engine.part(Connections).drain(self._drain_s)
        await self._hear_accepted()
        if self._entrance is not None:
            self._entrance.close()
        await super().cleanup()
        if self._lines is not None:
            self._lines.remove()

    async def _hear_accepted(self) -> None:
        """No other process sees what this one has taken off the queue of connections, and
        once aiohttp's shutdown has begun it reads nothing more: a request that is still on
        its way would wait for the end of all others, and then be dropped."""
        await asyncio.sleep(ACCEPTED_LEAST_S)
        for _ in range(round(ACCEPTED_S / _LOOK_S)):
            if not self._is_new_waited_for():
                break
            await asyncio.sleep(_LOOK_S)

    def _is_new_waited_for(self) -> bool:
        """Whether a connection has not said anything yet."""
        if self._entrance is not None and self._entrance.has_silent:
            return True
        connections = self.server.connections if self.server is not None else []
        return any(each._request_count == 0 for each in connections)


def refuse_slow_parser() -> None:
    """aiohttp's pure-Python parser is slow and less strict; it must be asked for.

    Raises:
        RuntimeError: The C parser is missing and ``AIOHTTP_NO_EXTENSIONS`` is not set.
    """
    is_python = http_parser.HttpRequestParser is http_parser.HttpRequestParserPy
    if is_python and not os.environ.get("AIOHTTP_NO_EXTENSIONS"):
        raise RuntimeError(
            "aiohttp's C parser is missing: reinstall aiohttp from a wheel, or set "
            "AIOHTTP_NO_EXTENSIONS=1 to accept the slower and less strict one"
        )
