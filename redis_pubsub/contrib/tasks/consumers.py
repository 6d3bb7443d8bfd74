"""Everything that a worker of this site can do."""

from __future__ import annotations

from ...consumers import Consumer, by_name, load_consumers


def load_all() -> list[Consumer]:
    """The consumers of all installed apps, and those of the site's ``TASKS``.

    Raises:
        HandlerConfigError: A module does not import, or two have one name.
    """
    consumers = load_consumers()
    by_name(consumers)
    return consumers
