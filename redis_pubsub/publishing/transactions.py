"""What a transaction publishes goes out once it has committed, in one round trip.

All state lives in the transaction's own list of commit hooks, so that a rollback takes
it along and nothing stays behind in the thread.

Each message has a hook of its own, which its savepoint's rollback removes. The first hook
to run sends its message and all later ones that are still wanted; the others find their
message sent. So there is one round trip, and an error in somebody else's hook that was
registered later cannot lose a message. (One registered *earlier* that raises stops all
hooks behind it: that is Django's rule, and the reason for its ``robust=True``.)

Jobs for workers go the same way: they are messages to a queue.

A message of the outbox is a row besides, written at once: rollbacks take it along by
themselves. Its hook only says that the row is there.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import Any

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..messages import Draft, queue_of
from .outbox.deliver import deliver
from .outbox.rows import discard, has_outbox, write
from .publisher import publisher


def after_commit(
    draft: Draft,
    using: str,
    *,
    replaces: Hashable = None,
    strict: bool = False,
    waits: bool = True,
    outbox: bool = False,
) -> None:
    """Send a message when the open transaction commits; at once where none is open.

    Args:
        draft: The message.
        using: Alias of the database whose transaction counts.
        replaces: Of several messages of a transaction with the same key, only the last
            that survives is sent.
        strict: Let a failure raise, where no transaction is open and no outbox keeps the
            message.
        waits: Return when Redis has it, where no transaction is open. What a commit sends
            is not waited for.
        outbox: Keep it in the database until Redis has it.

    Raises:
        DatabaseError: It could not be written to the outbox.
    """
    if outbox and has_outbox(using):
        _keep([draft], using, replaces)
    else:
        connection = transaction.get_connection(using)
        if not connection.in_atomic_block and connection.get_autocommit():
            _send([draft], strict=strict, waits=waits)
            return
        _enqueue(connection, draft, replaces)


def _send(drafts: Sequence[Draft], *, strict: bool = False, waits: bool = True) -> None:
    """To everybody who listens, or into a queue."""
    messages = [draft for draft in drafts if queue_of(draft.channel) is None]
    jobs = [draft for draft in drafts if queue_of(draft.channel) is not None]
    if messages and (strict or waits):
        publisher.send(messages, strict=strict)
    elif messages:
        publisher.post(messages)
    if jobs:
        publisher.send_jobs(jobs, strict=strict)


def all_after_commit(
    drafts: Sequence[Draft],
    using: str,
    *,
    strict: bool = False,
    waits: bool = True,
    outbox: bool,
) -> None:
    """`after_commit` for many: one statement for the outbox, one round trip to Redis."""
    if outbox and drafts and has_outbox(using):
        _keep(drafts, using)
        return
    connection = transaction.get_connection(using)
    if not connection.in_atomic_block and connection.get_autocommit():
        _send(drafts, strict=strict, waits=waits)
    else:
        for draft in drafts:
            _enqueue(connection, draft, None)


def _keep(drafts: Sequence[Draft], using: str, replaces: Hashable = None) -> None:
    """Write messages to the outbox, and see to them after the commit."""
    connection = transaction.get_connection(using)
    if not connection.in_atomic_block and connection.get_autocommit():
        write(drafts, using)
        deliver(drafts, using)
        return
    if replaces is not None:
        # If its savepoint is undone, so is this, and the one before is there again.
        before = [
            entry.draft
            for entry in _queue_of(connection)
            if entry.is_wanted and entry.replaces == replaces and entry.outbox
        ]
        discard(before, using)
    write(drafts, using)
    for draft in drafts:
        _enqueue(connection, draft, replaces, outbox=using)


def _enqueue(connection: Any, draft: Draft, replaces: Hashable, outbox: str = "") -> None:
    queue = _queue_of(connection)
    entry = _Entry(connection.savepoint_ids, queue, draft, replaces, outbox)
    queue.append(entry)
    connection.run_on_commit.append((entry, entry.commit, True))


class _Entry(set[str | None]):
    """A message that waits for the commit, as the set of savepoints it was made in.

    Django drops the hooks of a savepoint that is rolled back by asking each hook's set
    whether it contains the savepoint: this set takes note.
    """

    def __init__(
        self,
        savepoints: Iterable[str | None],
        queue: list[_Entry],
        draft: Draft,
        replaces: Hashable,
        outbox: str,
    ) -> None:
        super().__init__(savepoints)
        self.queue = queue
        self.draft = draft
        self.replaces = replaces
        # The database that has a row of it, or "".
        self.outbox = outbox
        self.is_wanted = True

    def __contains__(self, savepoint: object) -> bool:
        is_mine = super().__contains__(savepoint)
        if is_mine:
            self.is_wanted = False
        return is_mine

    def commit(self) -> None:
        """Send this message and those after it, unless an earlier hook did."""
        if not self.is_wanted:
            return
        begin = next(i for i, entry in enumerate(self.queue) if entry is self)
        wanted = [entry for entry in self.queue[begin:] if entry.is_wanted]
        last = {entry.replaces: entry for entry in wanted if entry.replaces is not None}
        for entry in wanted:
            entry.is_wanted = False
        wanted = [
            entry
            for entry in wanted
            if entry.replaces is None or last[entry.replaces] is entry
        ]
        direct = [entry.draft for entry in wanted if not entry.outbox]
        if direct:
            _send(direct, waits=False)
        kept = [entry for entry in wanted if entry.outbox]
        if kept:
            deliver([entry.draft for entry in kept], kept[0].outbox)


def waiting() -> Iterator[object]:
    """The messages that wait in this thread's open transactions, opaque."""
    for connection in connections.all(initialized_only=True):
        yield from _queue_of(connection)


def send_now(connection: BaseDatabaseWrapper, *, besides: Iterable[object] = ()) -> None:
    """Do for an open transaction what its commit would: for tests, whose transaction
    never commits."""
    passed_over = {id(entry) for entry in besides}
    for entry in _queue_of(connection):
        if id(entry) not in passed_over:
            entry.commit()


def _queue_of(connection: BaseDatabaseWrapper) -> list[_Entry]:
    """The messages of the open transaction so far."""
    for hook in reversed(connection.run_on_commit):
        savepoints: object = hook[0]
        if isinstance(savepoints, _Entry):
            return savepoints.queue
    return []
