"""Rows of the outbox: written with a transaction, read in order, counted."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import msgspec
from django.db import connections, router, transaction
from django.db.models import Count, Min, Q
from django.db.models.functions import Length
from django.utils import timezone

from ...messages import Draft
from ...models.outbox import PARTITIONS, OutboxMessage
from ...querysets import OutboxQuerySet

BATCH = 500
"""Most rows in one round trip to Redis."""
BATCH_BYTES = 4 * 1_048_576
"""Payloads of one batch, beyond its first row."""
_FIRST_BATCH = 32

_encode = msgspec.json.Encoder().encode

Rows = OutboxQuerySet[OutboxMessage]


@dataclass(frozen=True, slots=True)
class OutboxState:
    """How much waits.

    Attributes:
        depth: Messages that are committed and not out.
        oldest_s: Seconds since the oldest of them was written; 0 where there is none.
        parked: Messages that were given up.
    """

    depth: int
    oldest_s: float
    parked: int


def partition_of(channel: str) -> int:
    """The partition of a channel: the same in every process and for good."""
    return zlib.crc32(channel.encode()) % PARTITIONS


def databases() -> list[str]:
    """Aliases of the databases that have an outbox, as the routers say."""
    return [alias for alias in connections if has_outbox(alias)]


def has_outbox(using: str) -> bool:
    """Whether a database has the tables, as the routers say."""
    return bool(router.allow_migrate_model(using, OutboxMessage))


def write(drafts: Iterable[Draft], using: str) -> None:
    """Write messages into the open transaction, in one statement per 1,000.

    Raises:
        DatabaseError: They could not be written, so the transaction must not commit.
    """
    connection: Any = connections[using]
    begin, row = _insertion(connection.ops.quote_name)
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    rows = [_values(draft, now, connection.Database.Binary) for draft in drafts]
    most = connection.features.max_query_params
    chunk = most // len(_WRITTEN) if most else 1_000
    # All or none, also where no transaction is open.
    is_split = len(rows) > chunk and not connection.in_atomic_block
    whole = transaction.atomic(using=using) if is_split else nullcontext()
    with whole, connection.cursor() as cursor:
        for first in range(0, len(rows), chunk):
            some = rows[first : first + chunk]
            statement = begin + ", ".join([row] * len(some))
            cursor.execute(statement, [value for values in some for value in values])


_WRITTEN = (
    *("partition", "channel", "message_id", "header", "payload", "history_size"),
    *("history_ttl_s", "joins_history", "version", "created_at"),
)
_AS_THEY_BEGIN = (("attempts", "0"), ("last_error", "''"), ("parked", "FALSE"))


@lru_cache(maxsize=8)
def _insertion(quote: Callable[[str], str]) -> tuple[str, str]:
    """The statement up to its values, and the place of one row's.

    By hand, since every save pays for it: the ORM takes longer to make it than the
    database to do it.
    """
    table = quote(OutboxMessage._meta.db_table)
    fixed, constants = zip(*_AS_THEY_BEGIN, strict=True)
    columns = ", ".join(quote(name) for name in (*_WRITTEN, *fixed))
    values = ", ".join([*["%s"] * len(_WRITTEN), *constants])
    return f"INSERT INTO {table} ({columns}) VALUES ", f"({values})"


def _values(draft: Draft, now: Any, binary: Callable[[bytes], Any]) -> tuple[Any, ...]:
    return (
        partition_of(draft.channel),
        draft.channel,
        draft.header.id,
        binary(_encode(draft.header)),
        binary(draft.raw),
        draft.options.history_size,
        draft.options.history_ttl_s,
        draft.joins_history,
        draft.version,
        now,
    )


def discard(drafts: Sequence[Draft], using: str) -> None:
    """Take messages out again, unpublished."""
    for begin in range(0, len(drafts), BATCH):
        some = drafts[begin : begin + BATCH]
        rows: Any = OutboxMessage.objects.using(using).filter(
            parked=False,
            partition__in={partition_of(draft.channel) for draft in some},
            message_id__in=[draft.header.id for draft in some],
        )
        # Without looking for what hangs on them.
        rows._raw_delete(using)


def delete(using: str, pks: Sequence[int]) -> None:
    """Delete rows in one statement."""
    table = connections[using].ops.quote_name(OutboxMessage._meta.db_table)
    places = ", ".join(["%s"] * len(pks))
    with connections[using].cursor() as cursor:
        cursor.execute(f"DELETE FROM {table} WHERE id IN ({places})", pks)


def waiting(using: str, partition: int) -> Rows:
    """A partition's messages, in the order in which they are to be published."""
    rows: Any = OutboxMessage.objects.using(using)
    found: Rows = rows.filter(parked=False, partition=partition).order_by("id")
    return found


def read_batch(
    using: str, partition: int, *, besides: Collection[str] = (), is_backlog: bool = False
) -> list[OutboxMessage]:
    """The messages that are next, always from the lowest id on.

    A cursor that goes on behind the last id would never see a row that was committed later
    under a lower one.

    Args:
        using: The database.
        partition: Whose.
        besides: Channels that have to wait.
        is_backlog: There are many: take more, and look at their size first.
    """
    if not besides and not is_backlog:
        first = _first_batch(using, partition)
        if not any(row.attempts for row in first):
            return first
    rows = waiting(using, partition)
    if besides:
        rows = rows.exclude(channel__in=besides)
    if not is_backlog:
        return list(rows[:_FIRST_BATCH])
    last, count, size = 0, 0, 0
    for pk, length in rows.values_list("id", Length("payload"))[:BATCH]:
        size += length or 0
        if count and size > BATCH_BYTES:
            break
        last, count = pk, count + 1
    return list(rows.filter(id__lte=last)[:count])


_READ = (
    *("id", "channel", "message_id", "header", "payload", "history_size"),
    *("history_ttl_s", "joins_history", "version", "attempts"),
)


def _first_batch(using: str, partition: int) -> list[OutboxMessage]:
    """The everyday batch, without what is of interest after a failure only."""
    quote = connections[using].ops.quote_name
    statement = (
        f"SELECT {', '.join(map(quote, _READ))} FROM {quote(OutboxMessage._meta.db_table)}"
        f" WHERE {quote('parked')} = %s AND {quote('partition')} = %s"
        f" ORDER BY id LIMIT {_FIRST_BATCH}"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(statement, [False, partition])
        return [OutboxMessage.from_db(using, _READ, row) for row in cursor.fetchall()]


def is_any_new(using: str, partition: int) -> bool:
    """Whether a partition has messages that were never tried."""
    quote = connections[using].ops.quote_name
    statement = (
        f"SELECT 1 FROM {quote(OutboxMessage._meta.db_table)} WHERE {quote('parked')} = %s"
        f" AND {quote('partition')} = %s AND attempts = 0 LIMIT 1"
    )
    with connections[using].cursor() as cursor:
        cursor.execute(statement, [False, partition])
        return cursor.fetchone() is not None


def is_full(batch: Sequence[OutboxMessage]) -> bool:
    """Whether more rows probably wait behind a batch."""
    return len(batch) >= _FIRST_BATCH


def waiting_partitions(using: str) -> list[int]:
    """Which partitions have messages; one query, sixteen looks into an index."""
    connection = connections[using]
    quote = connection.ops.quote_name
    table = quote(OutboxMessage._meta.db_table)
    numbers = " UNION ALL ".join(f"SELECT {n} AS n" for n in range(PARTITIONS))
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT n FROM ({numbers}) numbers WHERE EXISTS (SELECT 1 FROM {table} rows_"
            f" WHERE rows_.{quote('parked')} = %s AND rows_.{quote('partition')} = n)",
            [False],
        )
        return sorted(int(n) for (n,) in cursor.fetchall())


def state(using: str | None = None) -> OutboxState:
    """How much waits in a database, or in all that have an outbox. Counts the rows.

    Raises:
        DatabaseError: The database does not answer, or is not migrated.
    """
    depth, parked, oldest_s = 0, 0, 0.0
    for alias in [using] if using else databases():
        found = OutboxMessage.objects.using(alias).aggregate(
            waiting_count=Count("id", filter=Q(parked=False)),
            parked_count=Count("id", filter=Q(parked=True)),
            oldest=Min("created_at", filter=Q(parked=False)),
        )
        depth += found["waiting_count"]
        parked += found["parked_count"]
        if found["oldest"] is not None:
            age_s = (timezone.now() - found["oldest"]).total_seconds()
            oldest_s = max(oldest_s, age_s)
    return OutboxState(depth, oldest_s, parked)
