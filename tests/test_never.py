"""What this package does with nobody's bytes, whoever sends them."""

from __future__ import annotations

import ast
import gc
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from redis_pubsub.broker import scripts
from redis_pubsub.engine import Control
from redis_pubsub.exceptions import MalformedMessage
from redis_pubsub.metrics import Metrics
from redis_pubsub.wire import Envelope
from tests.processes import ROOT

PACKAGE = ROOT / "redis_pubsub"
SOURCES = sorted(PACKAGE.rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "yaml"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
SCRIPTS = sorted((PACKAGE / "static").rglob("*.js"))
PAGES = [
    *(PACKAGE / "templates").rglob("*.html"),
    *(ROOT / "example").rglob("*.html"),
    *(ROOT / "docs/snippets").rglob("*.html"),
]


def parsed(path: Path) -> ast.Module:
    # Collecting may write a traceback, for which Python 3.11 parses something as well, and
    # one inside the other is a SystemError.
    gc.disable()
    try:
        return ast.parse(path.read_text(), str(path))
    finally:
        gc.enable()


class Bomb:
    """Unpickled, it leaves a trace."""

    went_off = False

    def __reduce__(self):
        return go_off, ()


def go_off():
    Bomb.went_off = True


def test_no_module_can_run_what_it_reads():
    """No pickle, marshal or YAML, no eval or exec; not under another name either."""
    assert len(SOURCES) > 200
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            assert not is_forbidden(node), f"{path}: {ast.unparse(node)}"


def is_forbidden(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(each.name.split(".")[0] in FORBIDDEN_MODULES for each in node.names)
    if isinstance(node, ast.ImportFrom):
        return not node.level and (node.module or "").split(".")[0] in FORBIDDEN_MODULES
    called = node.func if isinstance(node, ast.Call) else None
    return isinstance(called, ast.Name) and called.id in FORBIDDEN_CALLS


@pytest.mark.parametrize("code", ["import pickle as p", "from yaml import load", "eval(x)"])
def test_what_is_looked_for_would_be_found(code):
    """The test above can fail."""
    assert any(map(is_forbidden, ast.walk(ast.parse(code))))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_from_redis_is_garbage(protocol):
    """As a whole message, as a header, as a payload, and as a control event."""
    bomb = pickle.dumps(Bomb(), protocol)
    pickle.loads(bomb)
    assert Bomb.went_off
    Bomb.went_off = False

    for data in (bomb, b"1:0::" + bomb + b"\n1", b'1:0::{"id":"x"}\n' + bomb):
        with pytest.raises(MalformedMessage):
            Envelope().parse("news", data)
    control, heard = Control(Metrics()), []
    control.handlers.append(heard.append)
    control.offer([SimpleNamespace(raw=bomb)])

    assert not heard and not Bomb.went_off


def test_asserts_do_no_work():
    """``python -O`` leaves them out: none of them calls anything that changes something."""
    pure = {"isinstance", "len", "callable", "is_eager", "all", "any"}
    for path in SOURCES:
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.Assert):
                continue
            for each in ast.walk(node.test):
                assert not isinstance(each, ast.NamedExpr | ast.Await), ast.unparse(node)
                if isinstance(each, ast.Call):
                    name = ast.unparse(each.func)
                    assert name in pure, f"{path}: {ast.unparse(node)}"


def test_scripts_of_redis_are_files_and_never_made():
    """What differs from call to call are keys and arguments."""
    files = {path.read_text() for path in (PACKAGE / "broker").glob("*.lua")}
    known = [each for each in vars(scripts).values() if isinstance(each, scripts.Script)]
    assert known and all(script.text in files for script in known)
    for path in (PACKAGE / "broker").glob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
                text = node.value if isinstance(node.value, bytes) else node.value.encode()
                assert not re.search(rb"redis\.p?call|PSUBSCRIBE", text), path


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_no_script_of_ours_makes_elements_of_texts(path):
    """What arrives is handed to the page's own code as a value."""
    found = re.findall(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
        r"|setTimeout\(\s*[\"'`]",
        path.read_text(),
    )
    assert not found


def test_no_page_of_ours_switches_escaping_off():
    """Neither in templates nor in the script of the example site."""
    assert PAGES
    for path in PAGES:
        assert not re.search(r"\|\s*safe\b|autoescape off", path.read_text()), path
    for path in (ROOT / "example").rglob("*.js"):
        assert "innerHTML" not in path.read_text(), path


def test_every_gunicorn_that_we_show_opens_no_control_socket():
    """Since 25.1 it has one where nobody asked for it."""
    shown = 0
    for path in (*(ROOT / "docs").rglob("*.rst"), ROOT / "README.rst"):
        for command in re.findall(r"\$ gunicorn [\w.]+:\w+(?:.*\\\n)*.*", path.read_text()):
            shown += 1
            assert "--no-control-socket" in command, f"{path}: {command}"
    assert shown
