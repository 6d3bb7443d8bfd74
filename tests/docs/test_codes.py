"""docs/reference/codes.rst says what the code says, and so does the browser module."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest

from redis_pubsub import codes
from tests.processes import ROOT

PAGE = (ROOT / "docs/reference/codes.rst").read_text()
MODULE = ROOT / "redis_pubsub/static/redis_pubsub/redis_pubsub.js"
TABLES = {
    "Errors": codes.table(codes.Errors),
    "Disconnects": codes.table(codes.Disconnects),
    "Unsubscribes": codes.table(codes.Unsubscribes),
}
_YES = {"yes": True, "no": False}


def section(title):
    """What stands under a heading."""
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w+\n-+\n|\Z)", PAGE, re.M | re.S)
    assert found, title
    return found[1]


def rows(title):
    """The rows of a section's table: code, text, flag."""
    pattern = r"^    \* - (\d+)\n      - (.+)\n      - (yes|no)\n      - \S"
    found = re.findall(pattern, section(title), re.M)
    assert len(found) == len(re.findall(r"^    \* - \d", section(title), re.M))
    return [(int(code), text, _YES[flag]) for code, text, flag in found]


@pytest.mark.parametrize("title", TABLES)
def test_the_page_has_the_codes_that_the_server_has(title):
    """Numbers, texts and order; none missing, none too many."""
    known = [(code.code, code.reason) for code in TABLES[title].values()]

    assert [(code, text) for code, text, _ in rows(title)] == known


@pytest.mark.parametrize("title", TABLES)
def test_the_page_says_which_codes_are_temporary_or_final(title):
    """As the server marks errors, and as clients read the other numbers."""
    for code, _, flag in rows(title):
        (known,) = [each for each in TABLES[title].values() if each.code == code]
        if title == "Errors":
            assert flag == known.temporary
        elif title == "Disconnects":
            assert flag == known.is_final
        else:
            assert flag == (code < codes.Unsubscribes.INSUFFICIENT_STATE.code)


def test_codes_that_the_server_never_uses_are_marked():
    """A code that begins to be sent, or ceases to be, changes the page."""
    source = "".join(path.read_text() for path in (ROOT / "redis_pubsub").rglob("*.py"))
    # By their names; a site gives these to `disconnect` itself.
    by_sites = {"STATE_INVALIDATED"}
    for title, table in TABLES.items():
        for name, code in table.items():
            row = re.search(rf"\* - {code.code}\n(?:      - .*\n){{2}}      - (.*)", PAGE)
            is_marked = "not sent by this version" in row[1]
            # Granted to a subscription of the server, and those do not end yet.
            is_used = f"{title}.{name.upper()}" in source and code.code != 3006
            if title != "Disconnects" or name.upper() not in by_sites:
                assert is_marked is not is_used, code


def test_the_handlers_codes_are_those_of_their_own_page():
    """Both tables name the same numbers; `TRY_AGAIN` is one of them."""
    here = set(re.findall(r"^    \* - (\d+)\n", section("Handlers"), re.M))
    there = (ROOT / "docs/reference/websockets.rst").read_text()

    assert here == {"1001", "1008", "1011", "1013", "3008"}
    assert str(codes.TRY_AGAIN) in here
    assert [code for code in here if f"    * - {code}\n" not in there] == []


def exported():
    """The browser module's ``codes``."""
    source = MODULE.read_text()
    node = shutil.which("node")
    literal = re.search(r"^const codes = (\{.*?^\});", source, re.M | re.S)
    assert literal and re.search(r"^export \{[^}]*\bcodes\b", source, re.M)
    if node is None:
        text = re.sub(r",(\s*\})", r"\1", re.sub(r"(\w+):", r'"\1":', literal[1]))
        return json.loads(text)
    script = f"import('file://{MODULE}').then((m) => console.log(JSON.stringify(m.codes)))"
    result = subprocess.run(
        [node, "--input-type=module", "-e", script],
        capture_output=True,
        check=True,
        text=True,
        timeout=30,
    )
    return json.loads(result.stdout)


def test_the_browser_modules_codes_are_the_servers():
    """It acts on some, under the server's names."""
    for title, known in exported().items():
        table = TABLES[title.capitalize()]
        assert known
        assert known == {name: table[name].code for name in known}
