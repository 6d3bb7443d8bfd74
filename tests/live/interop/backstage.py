"""What happens behind the clients' backs: a process of its own, told by HTTP.

Starts, kills and restarts servers; publishes, signs tokens, disconnects and unsubscribes as
a site's other processes would; takes away what Redis knows. One POST with JSON is one
deed: ``{"do": "publish", "channel": "open:a", "payloads": [1, 2]}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import django

from tests.processes import Process, free_port

_GUNICORN = (
    *("-m", "gunicorn", "redis_pubsub.contrib.websockets.deploy:application"),
    *("--worker-class", "aiohttp.worker.GunicornWebWorker", "--no-control-socket"),
)


class Server:
    """A gunicorn at one address, whichever process that is."""

    def __init__(self, workers: int, env: dict[str, str]) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._workers = workers
        self._env = env
        self._process: Process | None = None

    def start(self) -> None:
        arguments = ("--bind", f"127.0.0.1:{self.port}", "-w", str(self._workers))
        self._process = Process(*_GUNICORN, *arguments, env=self._env)
        self._process.wait_for("Booting worker", times=self._workers)
        self._process.wait_for_port(self.port)

    def kill(self) -> None:
        """Master and workers at once, as if the machine lost power."""
        assert self._process is not None, "it runs"
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def end(self) -> None:
        """As a deployment does; the clients are told."""
        assert self._process is not None, "it runs"
        self._process.end()
        sys.stdout.write(self._process.output)

    def close(self) -> None:
        if self._process is not None:
            with self._process:
                self.end()


class Deeds:
    """Each public method is a deed."""

    def __init__(self) -> None:
        self._servers: dict[str, Server] = {}

    # -- servers -------------------------------------------------------------------------

    def serve(self, name: str, workers: int = 1, **env: str) -> str:
        """Start a server, unless it runs."""
        if name not in self._servers:
            self._servers[name] = Server(workers, env)
            self._servers[name].start()
        return self._servers[name].url

    def kill(self, name: str) -> None:
        self._servers[name].kill()

    def end(self, name: str) -> None:
        self._servers[name].end()

    def restart(self, name: str) -> None:
        self._servers[name].start()

    def close(self) -> None:
        for server in self._servers.values():
            server.close()

    # -- the site ------------------------------------------------------------------------

    def user(self, name: str) -> str:
        """A user's primary key, as text."""
        return str(_user(name).pk)

    def token(self, user: str, ttl_s: float = 600, info: Any = None) -> str:
        from redis_pubsub.auth.tokens import connection_token

        return connection_token(_user(user), ttl_s=ttl_s, info=info)

    def session(self, user: str) -> str:
        """The cookie of a browser whose user has logged in."""
        from django.test import Client

        browser = Client()
        browser.force_login(_user(user))
        return "; ".join(f"{name}={each.value}" for name, each in browser.cookies.items())

    def subscription_token(
        self, channel: str, user: str | None = None, ttl_s: float = 600, info: Any = None
    ) -> str:
        from redis_pubsub.auth.tokens import subscription_token

        owner = None if user is None else _user(user)
        return subscription_token(owner, channel, ttl_s=ttl_s, info=info)

    def publish(self, channel: str, payloads: list[Any]) -> None:
        from redis_pubsub import publish

        for payload in payloads:
            publish(channel, payload, strict=True)

    def disconnect(self, user: str = "", client: str = "", code: str = "") -> None:
        from redis_pubsub import disconnect
        from redis_pubsub.codes import Disconnects

        kind = getattr(Disconnects, code or "FORCE_DISCONNECT")
        disconnect(_user(user) if user else None, client=client, code=kind)

    def unsubscribe(self, channel: str, client: str) -> None:
        from redis_pubsub import unsubscribe

        unsubscribe(None, channel, client=client)

    def deactivate(self, user: str) -> None:
        """The user may no longer do anything, and every process is told."""
        from redis_pubsub import refresh

        row = _user(user)
        row.is_active = False
        row.save()
        refresh(row)

    def enrol(self, user: str, channel: str) -> None:
        """Subscribe a user by a row."""
        from redis_pubsub.models import Channel

        Channel.objects.get_or_create(name=channel)[0].subscribe(_user(user))

    def strike_off(self, user: str, channel: str) -> None:
        """End what `enrol` began."""
        from redis_pubsub.models import Channel

        Channel.objects.get(name=channel).unsubscribe(_user(user))

    # -- trouble -------------------------------------------------------------------------

    def forget(self, channel: str) -> None:
        """Redis loses a channel's history and numbering."""
        _redis().delete(
            *(f"interop:{{{channel}}}:{part}" for part in ("meta", "stream", "versions"))
        )

    def cut(self) -> None:
        """Redis drops everybody who listens; they come back at once."""
        _redis().client_kill_filter(_type="pubsub")


def _redis() -> Any:
    from redis import Redis

    return Redis.from_url(os.environ["REDIS_URL"])


def _user(name: str) -> Any:
    from django.contrib.auth import get_user_model

    return get_user_model().objects.get_or_create(username=name)[0]


class Door(BaseHTTPRequestHandler):
    """One deed a request."""

    deeds: Deeds

    def do_POST(self) -> None:
        from django.db import connections

        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        try:
            answer = getattr(self.deeds, asked.pop("do"))(**asked)
            status, body = 200, json.dumps(answer)
        except Exception as error:
            status, body = 500, repr(error)
        finally:
            connections.close_all()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body.encode())))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nobody reads it."""


def main() -> None:
    django.setup()
    from django.core.management import call_command

    call_command("migrate", verbosity=0)
    Door.deeds = Deeds()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    print(f"backstage is at http://127.0.0.1:{server.server_port}")
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    Door.deeds.close()


if __name__ == "__main__":
    main()
