"""Paths: prefix and slash rules, both URL forms, parameters."""

from __future__ import annotations

import re

from ...conf import get_config

_parameter = re.compile(r"\{(\w+)\}")


def clean_route(route: str) -> str:
    """A handler's route as it is mounted: prefix first, slash last if the settings say so.

    ========================  ========  ============  =================
    route                     prefix    append_slash  mounted at
    ========================  ========  ============  =================
    ``hello``, ``/hello``     ``""``    yes           ``/hello/``
    ``/``                     ``""``    yes           ``/``
    ``/hello``                ``ws``    yes           ``/ws/hello/``
    ``/hello``                ``""``    no            ``/hello``
    ========================  ========  ============  =================
    """
    config = get_config()
    prefix = config.websocket_url_prefix.strip("/")
    path = "/" + "/".join(part for part in (prefix, route.lstrip("/")) if part)
    if route.strip("/") == "" and prefix:
        return f"/{prefix}/"
    if config.append_slash and not path.endswith("/"):
        path += "/"
    return path


def both_forms(path: str) -> tuple[str, ...]:
    """A path with and without its final slash: browsers follow no redirect on a
    WebSocket handshake."""
    bare = path.rstrip("/")
    return (bare, bare + "/") if bare else ("/",)
