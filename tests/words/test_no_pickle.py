"""No message, job or setting can carry code."""

from __future__ import annotations

import ast
from pathlib import Path

import redis_pubsub

UNSAFE_MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}


def test_nothing_in_the_package_unpickles_or_evaluates():
    """M-10: no import of what loads objects, no call of what runs text, in any file."""
    found = []
    files = sorted(Path(redis_pubsub.__file__).parent.rglob("*.py"))
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found += [(path, node.lineno)] * (node.func.id in UNSAFE_CALLS)
            found += [
                (path, node.lineno) for n in names if n.partition(".")[0] in UNSAFE_MODULES
            ]

    assert len(files) > 100
    assert found == []
