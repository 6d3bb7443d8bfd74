"""The Lua scripts: what Redis does in one step, with nothing in between."""

from __future__ import annotations

import hashlib
from pathlib import Path


class Script:
    """A Lua script and the name Redis knows it by."""

    def __init__(self, name: str) -> None:
        self.text = Path(__file__).with_name(name).read_text()
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


PUBLISH = Script("publish.lua")
HISTORY = Script("history.lua")
PRESENCE_ENTER = Script("presence_enter.lua")
PRESENCE_EXIT = Script("presence_exit.lua")
JOB_SEND = Script("job_send.lua")
JOB_TAKE = Script("job_take.lua")
JOB_END = Script("job_end.lua")
JOB_BEAT = Script("job_beat.lua")
JOB_REPLAY = Script("job_replay.lua")
SCRIPTS = (
    *(PUBLISH, HISTORY, PRESENCE_ENTER, PRESENCE_EXIT),
    *(JOB_SEND, JOB_TAKE, JOB_END, JOB_BEAT, JOB_REPLAY),
)
