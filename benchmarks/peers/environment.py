"""Installs the peers: ``python -m benchmarks.peers.environment``.

Into ``benchmarks/.peers``, which git ignores. What cannot be installed is reported, and is
missing in the results; ``nats-server`` is a package of the system (Debian's).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

_PLACE = Path(__file__).resolve().parent.parent / ".peers"
PYTHON = _PLACE / "python" / "bin" / "python"
NODE = _PLACE / "node" / "node_modules"
_PACKAGES = (
    "channels",
    "channels_redis",
    "daphne",
    "djangorestframework",
    "djangorestframework-simplejwt",
    "psycopg[binary]",
    "aiohttp",
    "picows",
    "python-socketio",
    "redis[hiredis]",
    "uvicorn[standard]",
    "uvloop",
)
_MODULES = ("ws", "ioredis", "bufferutil")


def install() -> list[str]:
    """Install what is not there; what failed, in words."""
    failed = []
    if not PYTHON.exists():
        _PLACE.mkdir(exist_ok=True)
        subprocess.run(
            [sys.executable, "-m", "venv", str(PYTHON.parent.parent)], check=True
        )
    pip = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, *_PACKAGES], check=False).returncode:
        failed.append("the Python peers: pip failed, see above")
    npm = shutil.which("npm")
    if npm is None:
        failed.append("Node ws + ioredis: npm is missing")
    else:
        NODE.parent.mkdir(parents=True, exist_ok=True)
        (NODE.parent / "package.json").write_text('{"private": true}\n')
        done = subprocess.run(
            [npm, "install", "--silent", "--no-audit", "--no-fund", *_MODULES],
            cwd=NODE.parent,
            check=False,
        )
        if done.returncode:
            failed.append("Node ws + ioredis: npm failed, see above")
    if shutil.which("nats-server") is None:
        failed.append("NATS: install the system's package nats-server")
    return failed


if __name__ == "__main__":
    for _each in install():
        print("missing:", _each)
