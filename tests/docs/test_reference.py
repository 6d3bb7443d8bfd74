"""What the code has, the reference names."""

from __future__ import annotations

import dataclasses
import re

import pytest

import redis_pubsub
from redis_pubsub import checks, conf
from redis_pubsub.conf import KEYS
from redis_pubsub.contrib.wsgi import WSGIOptions
from redis_pubsub.options import (
    CHANNEL_OPTION_NAMES,
    LIMIT_NAMES,
    ChannelOptions,
    Limits,
    ReceiptOptions,
)
from tests.processes import ROOT

DOCS = ROOT / "docs"
SETTINGS = (DOCS / "reference/settings.rst").read_text()


@pytest.mark.parametrize("name", sorted(KEYS | CHANNEL_OPTION_NAMES | LIMIT_NAMES))
def test_the_settings_reference_names_every_key(name):
    """A new key, channel option or limit comes with its line in the reference."""
    assert f"``{name}``" in SETTINGS


@pytest.mark.parametrize("options", [conf.Config, ChannelOptions, Limits, ReceiptOptions])
def test_the_settings_reference_says_the_defaults(options):
    """Numbers in the tables are those of the code."""
    for field in dataclasses.fields(options):
        value = field.default
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        row = re.search(rf"\* - ``{field.name}``\n +- (.*)\n", SETTINGS)
        assert row, field.name
        number = row[1].replace(",", "").strip("`")
        assert float(number) == value, field.name


@pytest.mark.parametrize("name", sorted(set(redis_pubsub.__all__) - {"__version__"}))
def test_the_documentation_names_every_public_name(name):
    """What can be imported from the package is documented."""
    pages = [page.read_text() for page in (DOCS / "reference").rglob("*.rst")]

    assert any(re.search(rf"\b{name}\b", page) for page in pages)


def test_every_counter_is_named():
    """docs/topics/serving.rst lists what a process counts."""
    sources = (ROOT / "redis_pubsub").rglob("*.py")
    counted = {
        name
        for source in sources
        for name in re.findall(r'\.count\(\s*"(\w+)"', source.read_text())
    }
    page = (DOCS / "topics/serving.rst").read_text()

    assert sorted(name for name in counted if f"``{name}``" not in page) == []


def test_every_check_is_named():
    """docs/reference/checks.rst has each id."""
    directory = ROOT / "redis_pubsub" / "checks"
    source = "".join(path.read_text() for path in directory.glob("*.py"))
    page = (DOCS / "reference/checks.rst").read_text()

    ids = set(re.findall(r'"([EW]\d{3})"', source))
    assert ids and sorted(id for id in ids if f"``{id}``" not in page) == []
    assert checks.TAG in page


def test_every_wsgi_option_is_named():
    """docs/topics/serving.rst has each limit of the pages' side."""
    page = (DOCS / "topics/serving.rst").read_text()

    names = [field.name for field in dataclasses.fields(WSGIOptions)]
    assert [name for name in names if f"``{name}``" not in page] == []
