"""docs/topics/design.rst: the map is of this house."""

from __future__ import annotations

import re

import pytest

from tests.processes import ROOT

PACKAGE = ROOT / "redis_pubsub"
PAGE = (ROOT / "docs/topics/design.rst").read_text()
MAP = PAGE.partition("Which room for which line")[2].partition("\nOne save,")[0]
NAMED = set(re.findall(r"``([\w/]+?)/?``", MAP))
UNNAMED = {"__init__", "__pycache__", "templates"}


def rooms():
    for folder, prefix in ((PACKAGE, ""), (PACKAGE / "contrib", "contrib/")):
        for path in sorted(folder.iterdir()):
            if path.suffix in ("", ".py") and path.stem not in UNNAMED | {"contrib"}:
                yield prefix + path.stem


@pytest.mark.parametrize("room", list(rooms()))
def test_every_room_is_on_the_map(room):
    """A new folder or module comes with a line on what is done there."""
    assert room in NAMED


def test_the_map_has_no_room_that_is_not_there():
    """What was moved or removed is taken off it."""
    known = set(rooms()) | {"outbox", "protocol"}
    files = {each for each in NAMED if "/" in each or each in known}
    assert [each for each in files if each not in known] == []
