"""The browser module: its own tests under Node, its size, its classic form, its types."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.services import require

HERE = Path(__file__).parent
STATIC = HERE.parents[1] / "redis_pubsub" / "static" / "redis_pubsub"
MODULE = STATIC / "redis_pubsub.js"
EVENTS = STATIC / "events.js"

PROGRESS = STATIC / "progress.js"

GZIPPED_BYTES = 8192
EVENTS_GZIPPED_BYTES = 2560
PROGRESS_GZIPPED_BYTES = 2560
NODE_VERSION = (20, 11)
"""The first whose mocked timers move the clock too."""
TIMEOUT_S = 60


@pytest.fixture(scope="module")
def node() -> str:
    """The path of a Node that can run the tests."""
    path = shutil.which("node")
    require("Node.js 20.11 or newer", path is not None and _version(path) >= NODE_VERSION)
    assert path is not None
    return path


def test_the_modules_own_tests_pass(node: str) -> None:
    """What the module promises to a page, against a played browser and server."""
    result = _run(node, "--test", *sorted(map(str, HERE.glob("*.test.mjs"))))

    assert result.returncode == 0, result.stdout + result.stderr
    assert int(re.findall(r"^\S+ pass (\d+)$", result.stdout, re.M)[-1]) > 0


def test_the_classic_script_is_the_module(node: str) -> None:
    """``node tests/browser/classic.mjs`` was run after the last change."""
    result = _run(node, str(HERE / "classic.mjs"), "--check")

    assert result.returncode == 0, result.stderr


def test_a_page_loads_at_most_8_kilobytes() -> None:
    """The module as shipped, comments included, as a web server compresses it."""
    assert len(gzip.compress(MODULE.read_bytes(), 9)) <= GZIPPED_BYTES
    assert len(gzip.compress(EVENTS.read_bytes(), 9)) <= EVENTS_GZIPPED_BYTES


@pytest.mark.parametrize("module", [MODULE, EVENTS])
def test_the_types_name_every_export(module: Path) -> None:
    """What the module exports is what its types declare."""
    exported = re.search(r"^export \{ (.+) \};$", module.read_text(), re.M)
    assert exported
    values = r"^export (?:class|function|const) (\w+)"
    types = module.with_suffix(".d.ts").read_text()

    assert set(re.findall(values, types, re.M)) == set(exported[1].split(", "))


@pytest.mark.parametrize(
    ("module", "name"),
    [(MODULE, "Live"), (MODULE, "Subscription"), (EVENTS, "EventSocket")],
)
def test_the_types_name_every_public_member(module: Path, name: str) -> None:
    """Methods and properties of the classes that a page holds."""
    written = _class(module.read_text(), name)
    declared = _class(module.with_suffix(".d.ts").read_text(), name)
    members = re.findall(r"^  (?:async |get )?([a-z]\w*)\(", written, re.M)

    assert len(members) > 5
    assert [m for m in members if not re.search(rf"^  .*\b{m}\b", declared, re.M)] == []


def test_the_progress_element_is_small_and_typed() -> None:
    """Beside the module, for pages that want it: its types name every export."""
    source, types = PROGRESS.read_text(), PROGRESS.with_suffix(".d.ts").read_text()

    assert len(gzip.compress(source.encode(), 9)) <= PROGRESS_GZIPPED_BYTES
    exported = re.findall(r"^export (?:class|function|const) (\w+)", source, re.M)
    assert len(exported) == 3
    assert set(exported) <= set(re.findall(r"^export \w+ (\w+)", types, re.M))


def _class(source: str, name: str) -> str:
    found = re.search(rf"class {name}\b.*?^}}", source, re.M | re.S)
    assert found
    return found[0]


def _version(node: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", _run(node, "--version").stdout)[:2]))


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
