"""pytest against a private PostgreSQL: ``python -m tests.with_postgres tests/readers``."""

from __future__ import annotations

import os
import subprocess
import sys
from urllib.parse import quote

from tests.services import postgres


def main(arguments: list[str]) -> int:
    """The exit status of pytest."""
    with postgres() as settings:
        host = quote(settings["HOST"], safe="")
        url = f"postgresql://{settings['USER']}@{host}/{settings['NAME']}"
        command = [sys.executable, "-m", "pytest", *arguments]
        return subprocess.call(command, env={**os.environ, "DATABASE_URL": url})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
