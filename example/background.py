"""The demo's worker: ``manage.py pubsub_worker`` beside the server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START_TIMEOUT_S = 60.0


class Background:
    """A process that runs jobs until the context is left.

    Args:
        environment: What it reads.
    """

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._is_ready = threading.Event()
        self._is_ending = False

    def __enter__(self) -> Background:
        self._process = subprocess.Popen(
            [sys.executable, "manage.py", "pubsub_worker"],
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            # A terminal's Ctrl-C reaches it once, through us.
            start_new_session=True,
        )
        self._watch = threading.Thread(target=self._follow, name="demo-worker")
        self._watch.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.end()
        self._watch.join()

    def wait_until_ready(self) -> None:
        """Until it takes jobs, or has ended, which is told on stderr."""
        self._is_ready.wait(START_TIMEOUT_S)

    def end(self, *, is_impatient: bool = False) -> None:
        """Let it finish what it does, for ten seconds at most. What is left is done at the
        next start.

        Args:
            is_impatient: End it at once.
        """
        was_ending, self._is_ending = self._is_ending, True
        if self._process.returncode is not None:
            return
        if is_impatient or not self._is_ready.is_set():
            # It has nothing in its hands, and may not yet know what a SIGINT is.
            os.killpg(self._process.pid, signal.SIGKILL)
        elif not was_ending:
            self._process.send_signal(signal.SIGINT)

    def _follow(self) -> None:
        """Take what it prints, the line that it is ready first, and notice its end."""
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for _ in lines:
                self._is_ready.set()
        status = self._process.wait()
        self._is_ready.set()
        if not self._is_ending or status not in (0, -signal.SIGKILL):
            print(
                f"The worker ended with status {status}; imports wait for the next start.",
                file=sys.stderr,
                flush=True,
            )
