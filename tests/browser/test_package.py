"""The browser's modules as static files and as an npm package."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.templatetags.static import static

from redis_pubsub import __version__
from tests.services import require

STATIC = Path(__file__).parents[2] / "redis_pubsub" / "static" / "redis_pubsub"
PACKAGE = json.loads((STATIC / "package.json").read_text())
MANIFEST = "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"


def _version_for_npm(version: str) -> str:
    """2.0.0.dev0 is 2.0.0-dev.0 there, 2.0.0rc1 is 2.0.0-rc.1."""
    return re.sub(r"\.?(dev|a|b|rc)(\d+)$", r"-\1.\2", version)


def _paths(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    return [path for each in value.values() for path in _paths(each)]


def test_the_package_has_pythons_version() -> None:
    """T-14: both are released together."""
    assert PACKAGE["version"] == _version_for_npm(__version__)


def test_the_package_has_every_file_and_names_none_that_is_not_there() -> None:
    """T-14: modules, classic scripts and types; what `exports` names is in `files`."""
    shipped = {path.name for path in STATIC.iterdir()} - {"package.json"}
    exported = {path.removeprefix("./") for path in _paths(PACKAGE["exports"])}

    assert set(PACKAGE["files"]) == shipped
    assert exported - {"package.json"} == shipped


def test_both_modules_can_be_imported_from_the_package(tmp_path: Path) -> None:
    """T-14: what npm packs, installed beside a script, under both names."""
    npm, node = shutil.which("npm"), shutil.which("node")
    require("npm and Node.js", npm is not None and node is not None)
    assert npm is not None and node is not None
    environment = {"PATH": f"{Path(node).parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    packed = subprocess.run(
        [npm, "pack", "--offline", "--json", "--pack-destination", str(tmp_path), STATIC],
        capture_output=True,
        check=True,
        cwd=tmp_path,
        env=environment,
        timeout=60,
    )
    (archive,) = tmp_path.glob("*.tgz")
    home = tmp_path / "node_modules" / PACKAGE["name"]
    home.mkdir(parents=True)
    unpack = ["tar", "-xzf", str(archive), "-C", str(home), "--strip-components=1"]
    subprocess.run(unpack, check=True, timeout=60)
    (tmp_path / "script.mjs").write_text(
        'import { Live } from "django-redis-pubsub";\n'
        'import { EventSocket } from "django-redis-pubsub/events";\n'
        "console.log(Live.name, EventSocket.name);\n"
    )
    result = subprocess.run(
        [node, "script.mjs"], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )

    assert result.stdout == "Live EventSocket\n", result.stderr
    names = {each["path"] for each in json.loads(packed.stdout)[0]["files"]}
    assert names == {*PACKAGE["files"], "package.json"}


def test_collectstatic_gives_each_file_a_name_of_its_content(
    settings: Any, tmp_path: Path
) -> None:
    """T-14: with manifest storage, which reads the scripts' imports as well."""
    settings.STATIC_ROOT = tmp_path
    settings.STORAGES = {**settings.STORAGES, "staticfiles": {"BACKEND": MANIFEST}}
    call_command("collectstatic", interactive=False, verbosity=0)

    for name in ("redis_pubsub.js", "events.js", "events.classic.js"):
        url = static(f"redis_pubsub/{name}")
        stem, _, ending = name.partition(".")
        assert re.fullmatch(rf"/static/redis_pubsub/{stem}[\w.]*\.[0-9a-f]{{12}}\.js", url)
        assert ending.endswith("js")
        collected = tmp_path / url.removeprefix("/static/")
        assert collected.read_bytes() == (STATIC / name).read_bytes()


@pytest.mark.parametrize("order", [("redis_pubsub", "events"), ("events", "redis_pubsub")])
def test_the_classic_scripts_share_their_place(order: tuple[str, str]) -> None:
    """T-14: `window.redisPubSub` has the names of both, whichever comes first."""
    node = shutil.which("node")
    require("Node.js", node is not None)
    assert node is not None
    scripts = "".join((STATIC / f"{name}.classic.js").read_text() for name in order)
    names = "console.log(typeof redisPubSub.Live, typeof redisPubSub.EventSocket)"
    result = subprocess.run(
        [node, "-e", scripts + names], capture_output=True, text=True, timeout=60
    )

    assert result.stdout == "function function\n", result.stderr
