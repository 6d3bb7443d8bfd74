"""docs/topics/security.rst: each attack has what happens, and tests that are there."""

from __future__ import annotations

import re
from collections import Counter

from tests.processes import ROOT

PAGE = (ROOT / "docs/topics/security.rst").read_text()
TABLE = PAGE[PAGE.index("\nAttack by attack\n") : PAGE.index("\nBefore it goes into")]
ROWS = re.findall(r"^    \* - (.+)\n      - (.+)\n      - (.+)$", TABLE, re.M)
ATTACKS = [row for row in ROWS if row[0] != "Attack"]
GROUPS = {
    "Who somebody is": 14,
    "What somebody may": 7,
    "What comes through Redis": 8,
    "Exhaustion": 17,
    "Pages, output, operation": 19,
}


def known_tests():
    found = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        found += re.findall(r"^ *(?:async )?def (test_\w+)", path.read_text(), re.M)
    return Counter(found)


def test_the_table_has_every_attack():
    """By group; none twice, none without an answer."""
    parts = re.split(r"^(.+)\n~{3,}$", TABLE, flags=re.M)[1:]
    counts = {
        title: len(re.findall(r"^    \* - (?!Attack$)", text, re.M))
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }

    assert counts == GROUPS
    assert len(ATTACKS) == sum(GROUPS.values())
    assert len({attack for attack, _, _ in ATTACKS}) == len(ATTACKS)


def test_every_test_it_names_is_there():
    """And each attack names one at least."""
    known = known_tests()
    for attack, answer, shown in ATTACKS:
        names = re.findall(r"``(test_\w+)``", shown)
        assert names and answer, attack
        assert re.sub(r"``test_\w+``|, ", "", shown) == "", attack
        for name in names:
            assert known[name], f"{attack}: there is no {name}"


def test_the_checks_it_names_are_those_of_deploy():
    """The list for production has every warning of ``check --deploy``."""
    checks = (ROOT / "docs/reference/checks.rst").read_text()
    deploy = checks[checks.index("With ``--deploy``") : checks.index("\nModels\n")]
    last = PAGE[PAGE.index("\nBefore it goes into") :]

    wanted = set(re.findall(r"\* - ``(W\d+)``", deploy))
    assert wanted and wanted <= set(re.findall(r"``(W\d+)``", last))


def test_the_policy_points_here():
    """``SECURITY.md`` says how to report, what is supported, and what is in scope."""
    policy = (ROOT / "SECURITY.md").read_text()

    for heading in ("Supported versions", "Reporting a hole", "What is in scope"):
        assert f"## {heading}" in policy
    for named in re.findall(r"`(docs/[\w./-]+)`", policy):
        assert (ROOT / named).exists(), named
