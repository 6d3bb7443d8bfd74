"""``python -m tests.fuzz TARGET --seconds 600``: fuzz one decoder, or all in turn."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

try:
    import atheris
except ImportError:
    atheris = None

from tests.fuzz.mutation import CORPUS, Mutator, seeds


def load() -> dict:
    import django

    django.setup()
    import logging

    # Each of a million refusals would be a line.
    logging.disable(logging.CRITICAL)
    from tests.fuzz.targets import TARGETS

    return TARGETS


def by_coverage(name: str, seconds: int) -> None:
    """Does not return: libFuzzer ends the process."""
    with atheris.instrument_imports(include=["redis_pubsub", "tests.fuzz.targets"]):
        target = load()[name]
    found = tempfile.mkdtemp(prefix=f"fuzz-{name}-")
    options = [f"-max_total_time={seconds}", "-max_len=20000", f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], *options, found, str(CORPUS / name)], target)
    atheris.Fuzz()


def by_mutation(name: str, seconds: int, seed: int) -> None:
    """Says how often, and what broke it."""
    target, source = load()[name], Mutator(seeds(name), seed)
    until, count = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        data = source.next()
        try:
            target(data)
        except Exception:
            print(f"{name}: {data!r}", file=sys.stderr)
            raise
        count += 1
    print(f"{name}: {count} inputs in {seconds} s, nothing found")


def main() -> int:
    names = sorted(path.name for path in CORPUS.iterdir())
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", choices=[*names, "all"])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--plain", action="store_true", help="without atheris")
    said = parser.parse_args()
    if said.target == "all":
        more = ["--plain"] if said.plain else []
        options = ["--seconds", str(said.seconds), "--seed", str(said.seed), *more]
        command = [sys.executable, "-m", "tests.fuzz"]
        results = [subprocess.call([*command, name, *options]) for name in names]
        return max(results)
    if atheris is None or said.plain:
        by_mutation(said.target, said.seconds, said.seed)
    else:
        by_coverage(said.target, said.seconds)
    return 0


if __name__ == "__main__":
    sys.exit(main())
