"""Tasks for whichever framework is there."""

from __future__ import annotations

from redis_pubsub.contrib.tasks.framework import home, part

if home() is not None:
    task = part().task

    @task
    def add(a, b=0):
        return a + b

    @task
    async def aadd(a, b):
        return a + b

    @task(takes_context=True)
    def which_attempt(context):
        return [context.attempt, str(context.task_result.status)]

    @task
    def fail(how):
        raise ValueError(how)

    @task
    def return_object():
        return object()

    def no_task(a):
        raise AssertionError("never called")
