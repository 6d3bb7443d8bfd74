"""A look into a worker, for those who count."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

from redis_pubsub.contrib.live import rpc
from redis_pubsub.hub import Hub


@rpc("vitals")
async def vitals(user, data):
    """What a process holds."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / 1_000_000,
        "tasks": len(asyncio.all_tasks()),
        "files": len(os.listdir("/proc/self/fd")),
        "channels": sum(len(each) for each in gc.get_objects() if type(each) is Hub),
        "objects": len(gc.get_objects()),
    }
