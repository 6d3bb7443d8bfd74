"""What a transaction publishes goes out once it has committed, in one round trip.

All state lives in the transaction's own list of commit hooks, so that a rollback takes
it along and nothing stays behind in the thread.

Each message has a hook of its own, which its savepoint's rollback removes. The first hook
to run sends its message and all later ones that are still wanted; the others find their
message sent. So there is one round trip, and an error in somebody else's hook that was
registered later cannot lose a message. (One registered *earlier* that raises stops all
hooks behind it: that is Django's rule, and the reason for its ``robust=True``.)
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ..messages import Draft
from .publisher import publisher


def after_commit(
    draft: Draft, using: str, *, replaces: Hashable = None, strict: bool = False
) -> None:
    """Send a message when the open transaction commits; at once where none is open.

    Args:
        draft: The message.
        using: Alias of the database whose transaction counts.
        replaces: Of several messages of a transaction with the same key, only the last
            that survives is sent.
        strict: Let a failure raise, where no transaction is open.
    """
    connection = transaction.get_connection(using)
    if not connection.in_atomic_block and connection.get_autocommit():
        publisher.send([draft], strict=strict)
        return
    queue = _queue_of(connection)
    entry = _Entry(connection.savepoint_ids, queue, draft, replaces)
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
    ) -> None:
        super().__init__(savepoints)
        self.queue = queue
        self.draft = draft
        self.replaces = replaces
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
        publisher.send(
            [
                entry.draft
                for entry in wanted
                if entry.replaces is None or last[entry.replaces] is entry
            ]
        )


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
