"""What the processes of these tests do: ``python -m tests.publishing.outbox.agent``."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import threading
import time
import uuid

import django


def say(text):
    print(text, flush=True)


def at_publish(when, number):
    """A failpoint: this process gets a signal before or after it publishes a batch."""
    from redis_pubsub.broker.blocking import BlockingRedisBroker

    publish = BlockingRedisBroker.publish_fenced

    def failing(self, drafts, fence):
        if when == "before":
            say("at the failpoint")
            os.kill(os.getpid(), number)
        outcomes = publish(self, drafts, fence)
        say(f"outcomes: {outcomes}")
        if when == "after":
            os.kill(os.getpid(), number)
        return outcomes

    BlockingRedisBroker.publish_fenced = failing


def commit_and_die(words):
    """Killed between commit and publication."""
    from django.db import transaction

    from redis_pubsub import publish

    with transaction.atomic():
        for word in words:
            publish("room", word)
        transaction.on_commit(lambda: None)
        transaction.get_connection().run_on_commit.insert(
            0, (set(), lambda: os.kill(os.getpid(), signal.SIGKILL), False)
        )


def publish_and_end(words):
    """As a command that ends right after its last commit."""
    from redis_pubsub import publish

    for word in words:
        publish("room", word)


def publish_and_fork():
    """The courier runs already when the child comes."""
    from django.db import connections

    from redis_pubsub import publish
    from redis_pubsub.publishing.outbox.deliver import courier

    publish("room", "before")
    while courier._thread is None or waiting():
        time.sleep(0.01)
    connections.close_all()
    child = os.fork()
    if not child:
        publish("room", "child")
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    publish("room", "parent")


def commit(words, held_s=0.0):
    """Publish in a transaction each, while Redis takes messages and looks at none."""
    import redis
    from django.db import transaction

    from redis_pubsub import publish
    from redis_pubsub.conf import get_config

    if held_s:
        with redis.Redis.from_url(get_config().broker_options().url) as admin:
            admin.client_pause(int(held_s * 1000), all=False)
    for word in words:
        with transaction.atomic():
            publish("room", word)


def post_and_end(words, held_s):
    """As a command that ends right after its last commit."""
    commit(words, held_s)


def post_in_child(words, held_s):
    """As a pool's process, which ends in its own way."""
    import multiprocessing

    child = multiprocessing.get_context("fork").Process(target=commit, args=(words, held_s))
    child.start()
    child.join()
    assert child.exitcode == 0


def post_and_fork(held_s):
    """The parent's messages are under way when the child comes."""
    commit(["before"], held_s)
    child = os.fork()
    if not child:
        commit(["child"])
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    commit(["parent"])
    from redis_pubsub.publishing.publisher import publisher

    publisher.settle()
    assert publisher.metrics["published"] == 2, publisher.metrics.snapshot()


def waiting():
    from redis_pubsub.publishing.outbox import state

    return state("default").depth


def publish_before_redis_answers(words):
    """Redis answers once everything is saved."""
    from redis_pubsub import publish
    from redis_pubsub.broker.blocking import BlockingRedisBroker

    is_saved, publish_fenced = threading.Event(), BlockingRedisBroker.publish_fenced

    def late(self, drafts, fence):
        assert is_saved.wait(20)
        return publish_fenced(self, drafts, fence)

    BlockingRedisBroker.publish_fenced = late
    for word in words:
        publish("room", word)
    say("saved")
    is_saved.set()


def relay_once(when="", number=0):
    from redis_pubsub.publishing.outbox.relay import relay_once

    if when:
        at_publish(when, signal.Signals(number))
    say(f"relayed: {relay_once()}")


def write(seed, transactions, channels, unlocked=False):
    """Random transactions; each outcome goes to standard output once it is known."""
    from django.db import transaction

    from redis_pubsub import publish

    if unlocked:
        without_locks()
    dice = random.Random(seed)
    for number in range(transactions):
        began = time.monotonic()
        rows = [
            (f"channel-{dice.randrange(channels)}", f"{seed}-{number}-{row}")
            for row in range(dice.choice([1, 1, 1, 2, 5]))
        ]
        is_kept = dice.random() > 0.15
        with transaction.atomic():
            for channel, word in rows:
                publish(channel, word)
            if dice.random() < 0.1:
                time.sleep(0.02)
            if not is_kept:
                transaction.set_rollback(True)
        if is_kept:
            say(json.dumps({"began": began, "ended": time.monotonic(), "rows": rows}))
    say("written")


def relay_on(unlocked=False):
    """Relay, always, as fast as can be."""
    from redis_pubsub.publishing.outbox import relay

    if unlocked:
        without_locks()
    relay.POLL_S = 0.01
    say("relaying")
    relay.relay_until(threading.Event())


def command(arguments):
    """A management command."""
    from django.core.management import call_command

    call_command(*arguments)


def without_locks():
    """The twin: everybody has every partition, and the broker knows nobody."""
    import contextlib

    from redis_pubsub.broker import Fence
    from redis_pubsub.publishing.outbox import drain, locks

    class Free(locks.Hold):
        @property
        def fence(self):
            # A name that the broker has never heard: it compares nothing.
            return Fence(uuid.uuid4().hex, 1, "everybody")

    @contextlib.contextmanager
    def hold(using, partition):
        yield Free(using, partition, 1, "everybody")

    drain.hold = hold


if __name__ == "__main__":
    django.setup()
    from redis_pubsub.publishing.outbox import courier

    # However loaded the machine is.
    courier.FINISH_S = 60.0
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
