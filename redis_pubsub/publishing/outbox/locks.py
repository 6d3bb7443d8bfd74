"""The right to publish a partition: one process at a time, tried once, never waited for.

PostgreSQL: an advisory lock of a short transaction. MySQL and MariaDB: ``GET_LOCK``. Other
databases: a lease in a row, since a transaction that lasts while Redis answers would keep
all other writers of an SQLite waiting.

Every holder gets a fencing number, which the broker checks. On PostgreSQL and MySQL number
and deletion are one transaction: if it does not commit, the number comes again with another
holder, and the broker refuses the second of the two. Whoever can still write then takes a
higher one.
"""

from __future__ import annotations

import logging
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import DatabaseError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, QuerySet

from ...broker import Fence
from ...exceptions import PubSubError
from ...models.outbox import OutboxPartition

logger = logging.getLogger("redis_pubsub.outbox")

LEASE_S = 10.0
"""How long a lease lasts; two round trips to a Redis that hangs take less."""


class LockLost(PubSubError):
    """Somebody else publishes this partition by now."""


class Hold:
    """A partition that is this process's to publish, until its block ends.

    Attributes:
        using: The database.
        partition: 0 to 15.
    """

    def __init__(self, using: str, partition: int, number: int, holder: str) -> None:
        self.using = using
        self.partition = partition
        self._number = number
        self._holder = holder

    @property
    def fence(self) -> Fence:
        return Fence(self.using, self._number, self._holder)

    def climb(self, seen: int) -> None:
        """Take a number above the highest the broker saw, if the partition is still ours.

        Raises:
            LockLost: It is not.
            DatabaseError: It is not: the transaction that held it is gone.
        """
        self._number = seen + 1
        if not self._mine().update(fence=self._number):
            raise LockLost(f"partition {self.partition} of {self.using!r}")

    def _mine(self) -> QuerySet[OutboxPartition]:
        return _row(self.using, self.partition)

    @contextmanager
    def settling(self) -> Iterator[None]:
        """What is written inside becomes true together with the end of the hold."""
        yield


class Lease(Hold):
    """A hold by a row that says so, for databases without locks."""

    def __init__(self, using: str, partition: int, number: int, holder: str) -> None:
        super().__init__(using, partition, number, holder)
        self._is_held = True

    def _mine(self) -> QuerySet[OutboxPartition]:
        return super()._mine().filter(holder=self._holder)

    @contextmanager
    def settling(self) -> Iterator[None]:
        with transaction.atomic(using=self.using):
            yield
            self._mine().update(holder="")
        # Not before it is committed: otherwise nobody would give it back.
        self._is_held = False

    def give_back(self) -> None:
        """End the lease; once."""
        if self._is_held:
            self._mine().update(holder="")
            self._is_held = False


@contextmanager
def hold(using: str, partition: int) -> Iterator[Hold | None]:
    """Try to get a partition, once.

    Yields:
        The hold, or ``None`` if somebody else has the partition. The block's end gives it
        back; an error undoes what the block wrote, as far as there are transactions.
    """
    connection = connections[using]
    holder = uuid.uuid4().hex[:12]
    by = {"postgresql": _by_advisory_lock, "mysql": _by_named_lock}
    with by.get(connection.vendor, _by_lease)(connection, partition, holder) as held:
        yield held


@contextmanager
def _by_advisory_lock(
    connection: BaseDatabaseWrapper, partition: int, holder: str
) -> Iterator[Hold | None]:
    is_outermost = not connection.in_atomic_block
    with transaction.atomic(using=connection.alias):
        fence, level = _lock_and_number(connection, partition, is_outermost)
        is_known = fence is not None or _row(connection.alias, partition).exists()
        # Under a stricter level this transaction would look at the database as it was
        # before the lock, and find rows that are published and deleted.
        is_strict = fence is not None and level != _READ_COMMITTED and is_outermost
        if is_known and not is_strict:
            yield _hold(connection.alias, partition, fence, holder)
            return
        transaction.set_rollback(is_outermost, using=connection.alias)
    # Committed by itself: two that make it at once must not wait for each other's pass.
    _make_row(connection.alias, partition)
    with transaction.atomic(using=connection.alias):
        if is_outermost:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
        fence, _ = _lock_and_number(connection, partition, is_outermost)
        yield _hold(connection.alias, partition, fence, holder)


_READ_COMMITTED = "read committed"
_HASTY = ", set_config('synchronous_commit', 'off', true)"


def _lock_and_number(
    connection: BaseDatabaseWrapper, partition: int, is_outermost: bool
) -> tuple[int | None, str]:
    """Lock and next number in one statement, since every commit pays for it.

    Returns:
        ``None`` instead of the number if somebody else has the lock or there is no row,
        and the transaction's isolation level.
    """
    table = connection.ops.quote_name(OutboxPartition._meta.db_table)
    # The lock is asked for this row's sake only, and by the table's own number: schemas of
    # one database do not meet. Nobody but the lock's holder ever locks the row.
    # Nobody waits for the disk here: if the server loses what it said it committed, number
    # and rows are there again together, and the broker knows the messages.
    hasty = _HASTY if is_outermost else ""
    statement = (
        f"UPDATE {table} SET fence = fence + 1 WHERE id = %s AND CASE WHEN id = %s"
        " THEN pg_try_advisory_xact_lock(%s::regclass::oid::int, id::int) ELSE FALSE END"
        f" RETURNING fence, current_setting('transaction_isolation'){hasty}"
    )
    with connection.cursor() as cursor:
        cursor.execute(statement, [partition, partition, table])
        found = cursor.fetchone()
    return (None, "") if found is None else (found[0], found[1])


def _hold(using: str, partition: int, fence: int | None, holder: str) -> Hold | None:
    return None if fence is None else Hold(using, partition, fence, holder)


@contextmanager
def _by_named_lock(
    connection: BaseDatabaseWrapper, partition: int, holder: str
) -> Iterator[Hold | None]:
    # Names are the server's, not the database's.
    database = zlib.crc32(str(connection.settings_dict["NAME"]).encode())
    name = f"redis_pubsub:{database:08x}:{partition}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT GET_LOCK(%s, 0)", [name])
        (is_mine,) = cursor.fetchone()
    if is_mine != 1:
        yield None
        return
    try:
        # Begun after the lock, so that it sees what the last holder did.
        with transaction.atomic(using=connection.alias):
            yield _numbered(connection.alias, partition, holder)
    finally:
        _release(connection, name)


def _release(connection: BaseDatabaseWrapper, name: str) -> None:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT RELEASE_LOCK(%s)", [name])
    except DatabaseError:
        # The lock ends with the connection, which must not be used as if it had none.
        logger.warning("a lock could not be given back; closing the connection")
        connection.close()


@contextmanager
def _by_lease(
    connection: BaseDatabaseWrapper, partition: int, holder: str
) -> Iterator[Hold | None]:
    lease = _take_lease(connection.alias, partition, holder)
    try:
        yield lease
    except BaseException:
        if lease is not None:
            _abandon(lease)
        raise
    if lease is not None:
        lease.give_back()


def _take_lease(using: str, partition: int, holder: str) -> Lease | None:
    row = _row(using, partition).first()
    if row is None:
        _make_row(using, partition)
        row = _row(using, partition).get()
    now = time.time()
    # One that ends later than any can is of a clock that was set back.
    if row.holder and 0 < row.expires_at - now <= LEASE_S:
        return None
    before = _row(using, partition).filter(fence=row.fence, holder=row.holder)
    row.fence += 1
    taken = before.update(fence=row.fence, holder=holder, expires_at=now + LEASE_S)
    return Lease(using, partition, row.fence, holder) if taken else None


def _abandon(lease: Lease) -> None:
    try:
        lease.give_back()
    except DatabaseError:
        # Then it runs out.
        logger.warning("a lease could not be given back; it runs out in %s s", LEASE_S)


def _numbered(using: str, partition: int, holder: str) -> Hold:
    """The hold of somebody who has the lock."""
    # Written before anything is published: what cannot be written to, a replica for
    # instance, cannot be published from.
    if not _row(using, partition).update(fence=F("fence") + 1):
        OutboxPartition.objects.using(using).bulk_create(
            [OutboxPartition(pk=partition, fence=1)]
        )
    fence = _row(using, partition).values_list("fence", flat=True).get()
    return Hold(using, partition, fence, holder)


def _make_row(using: str, partition: int) -> None:
    OutboxPartition.objects.using(using).bulk_create(
        [OutboxPartition(pk=partition)], ignore_conflicts=True
    )


def _row(using: str, partition: int) -> QuerySet[OutboxPartition]:
    return OutboxPartition.objects.using(using).filter(pk=partition)
