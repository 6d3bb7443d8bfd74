"""Python's collector in a process that serves: asked less often, and about less.

By default it looks at new objects after every 700 or 2,000, and at all objects of the
process, which Django's own are most of, whenever there are a quarter more. A connection
is a hundred objects that stay: in a storm a quarter of the CPU went there
(docs/topics/performance.rst).
"""

from __future__ import annotations

import gc

_DEFAULTS = ((700, 10), (2_000, 10))
"""As CPython has it up to 3.12, and since; who has set something else wants that."""
YOUNG, MIDDLE, OLD = 10_000, 10, 10
"""New objects before they are looked at, which takes half a millisecond, and how often that
before the elder are."""


def relax() -> None:
    """Never again look at what the process was started with, and at the rest less often.

    For processes that do nothing but serve, once all is imported; idempotent. A site that
    has set thresholds of its own, or switched the collector off, keeps them.
    """
    if gc.get_threshold()[:2] not in _DEFAULTS or not gc.isenabled():
        return
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, MIDDLE, OLD)
