"""`redis_pubsub.web.garbage`: what the collector looks at in a process that serves."""

import subprocess
import sys

import pytest

_ASK = """
import gc
{before}
from redis_pubsub.web import garbage
garbage.relax()
once = gc.get_freeze_count()
garbage.relax()
print(gc.get_threshold()[0] == garbage.YOUNG, once > 0, gc.get_freeze_count() == once)
"""


@pytest.mark.may_block(reason="the collector's state is a process's")
@pytest.mark.parametrize(
    ("before", "answer"),
    [
        ("", "True True True"),
        ("gc.set_threshold(5_000)", "False False True"),
        ("gc.disable()", "False False True"),
    ],
)
def test_a_serving_process_collects_less_unless_the_site_has_its_own_way(before, answer):
    """What was there at the start is not looked at again; a site's thresholds stay."""
    code = _ASK.format(before=before)

    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert (told.stdout.strip(), told.stderr) == (answer, "")
