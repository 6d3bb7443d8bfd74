"""What we ask to be installed has no known hole that a later release has closed."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.processes import ROOT

FIXED_IN = {
    # The first release without it, of the line that our lower bound is in.
    "django": [
        ("5.2.2", "CVE-2025-48432"),
        ("5.2.6", "CVE-2025-57833"),
        ("5.2.9", "CVE-2025-64460"),
        ("5.2.14", "CVE-2026-5766"),
        ("5.2.16", "CVE-2026-53877"),
        ("5.2.17", "CVE-2026-15307"),
    ],
    "aiohttp": [
        ("3.13.4", "CVE-2026-34525"),
        ("3.14.0", "CVE-2026-47265"),
        ("3.14.1", "CVE-2026-54273"),
        ("3.14.1", "CVE-2026-54274"),
        ("3.14.3", "CVE-2026-69244"),
    ],
    "gunicorn": [("22.0.0", "CVE-2024-1135"), ("23.0.0", "CVE-2024-6827")],
    "redis": [("4.5.5", "CVE-2023-28859")],
    "djangorestframework": [("3.15.2", "CVE-2024-21520")],
    "djangorestframework-simplejwt": [("5.5.1", "CVE-2024-22513")],
    "pyjwt": [
        ("2.4.0", "CVE-2022-29217"),
        ("2.12.0", "CVE-2026-32597"),
        ("2.13.0", "CVE-2026-48526"),
    ],
    "protobuf": [("5.29.5", "CVE-2025-4565"), ("5.29.6", "CVE-2026-0994")],
}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def declared():
    """Every requirement of the package and of its extras, by name."""
    extras = PROJECT["optional-dependencies"]
    lines = [*PROJECT["dependencies"]]
    for name in ("drf", "jwt", "prometheus", "protobuf", "uvloop"):
        lines += extras[name]
    found = [Requirement(line) for line in lines]
    return {re.sub(r"[-_.]+", "-", each.name).lower(): each for each in found}


@pytest.mark.parametrize("name", FIXED_IN)
def test_no_release_with_a_known_hole_is_good_enough_for_us(name):
    """Row 65: the oldest release that pip may choose is one that is repaired."""
    requirement = declared()[name]

    (least,) = [each.version for each in requirement.specifier if each.operator == ">="]

    open_holes = [hole for fixed, hole in FIXED_IN[name] if Version(least) < Version(fixed)]
    assert open_holes == []


def test_every_requirement_has_a_lower_bound():
    """Without one pip may keep whatever is there."""
    for name, requirement in declared().items():
        assert any(each.operator == ">=" for each in requirement.specifier), name
