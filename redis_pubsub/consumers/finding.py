"""The consumers of a site, by the names that jobs ask for."""

from __future__ import annotations

from collections.abc import Iterable

from ..discovery import app_modules
from ..exceptions import HandlerConfigError
from .declaring import Consumer

MODULE = "consumers"
"""Of an app: where they are."""


def load_consumers() -> list[Consumer]:
    """The consumers in the ``consumers`` modules of all installed apps.

    Raises:
        HandlerConfigError: A module does not import, or two have one name.
    """
    found = {
        each.path: each
        for _, module in app_modules(MODULE)
        for each in vars(module).values()
        if isinstance(each, Consumer)
    }
    consumers = list(found.values())
    by_name(consumers)
    return consumers


def by_name(consumers: Iterable[Consumer]) -> dict[str, Consumer]:
    """A table of consumers.

    Raises:
        HandlerConfigError: Two have one name.
    """
    table: dict[str, Consumer] = {}
    for each in consumers:
        for name in each.names:
            other = table.setdefault(name, each)
            if other is not each:
                raise HandlerConfigError(
                    f"@consumer({name!r}) is there twice: {other.path} and {each.path}"
                )
    return table
