"""The stand with Django Channels, channels_redis and uvicorn in place of this package.

They live in ``tests/chaos/.venv-channels``: ``python -m venv`` there, then install ``Django
channels channels_redis uvicorn websockets psycopg[binary]``.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, ClassVar

from tests.processes import Process

from .stand import Stand, children

PYTHON = Path(__file__).parent / ".venv-channels" / "bin" / "python"
PACKAGES = ("Django", "channels", "channels_redis", "uvicorn", "websockets")


def install() -> str:
    """Make the environment if it is not there; why it cannot be, or ``""``."""
    if not PYTHON.exists():
        import venv

        venv.create(PYTHON.parent.parent, with_pip=True)
    check = "import channels, channels_redis, django, psycopg, uvicorn, websockets"
    if subprocess.run([PYTHON, "-c", check], capture_output=True, check=False).returncode:
        command = [PYTHON, "-m", "pip", "install", "-q", *PACKAGES, "psycopg[binary]"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return f"Channels cannot be installed: {done.stderr[-300:]}"
    return ""


class ChannelsStand(Stand):
    """The group layer is ``channels_redis.pubsub``; `CoreStand` has the other."""

    layer: ClassVar[str] = "channels_redis.pubsub.RedisPubSubChannelLayer"
    client_options: ClassVar[dict[str, Any]] = {"dialect": "plain"}
    rows = (
        "SELECT c.name, r.key FROM channels_site_row r"
        " JOIN channels_site_channel c ON c.id = r.channel_id"
    )

    def _process(self, *command: str, **options: Any) -> Process:
        if command[1] == "tests.chaos.clients":
            return super()._process(*command, **options)
        return super()._process(*command, python=str(PYTHON), **options)

    def start_site(self) -> None:
        self.env |= {
            "DJANGO_SETTINGS_MODULE": "tests.chaos.channels_site.settings",
            "CHAOS_MODELS": "tests.chaos.channels_site.models",
            "CHAOS_LAYER": self.layer,
        }
        migrate = self._process("-m", "django", "migrate", "--run-syncdb", "-v", "0")
        assert migrate.wait() == 0, migrate.output
        self.site = self._process(
            *("-m", "uvicorn", "tests.chaos.channels_site.asgi:application"),
            *("--port", str(self.port), "--workers", str(self.plan.workers)),
            *("--lifespan", "off", "--log-level", "info"),
        )
        self.site.wait_for("Started server process", times=self.plan.workers)

    def workers(self) -> list[int]:
        return [
            pid
            for pid in children(self.site.pid)
            if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
        ]

    promises_commit_order = False

    def _waiting(self) -> int:
        return 0


class CoreStand(ChannelsStand):
    layer = "channels_redis.core.RedisChannelLayer"
