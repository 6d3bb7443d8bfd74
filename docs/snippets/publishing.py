from redis_pubsub import apublish, publish


def report(channel, done, total):
    """From a view, a command, a task: sent when the open transaction commits."""
    publish(channel, {"done": done, "total": total}, event="progress")


async def areport(channel, done, total):
    """From a coroutine: sent now."""
    return await apublish(channel, {"done": done, "total": total}, event="progress")
