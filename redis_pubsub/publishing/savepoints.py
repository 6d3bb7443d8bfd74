"""A savepoint that costs nothing unless it is needed."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from django.db import transaction


class SavepointIfQueried:
    """A savepoint in the open transaction, made right before the block's first query.

    An error of a query ends the whole transaction, so what may query needs one. Mostly it
    does not, and two round trips to the database are a third of what a save takes.

    Args:
        using: Alias of a database with an open transaction.
    """

    def __init__(self, using: str) -> None:
        self._connection = transaction.get_connection(using)
        # Its place among blocks inside and outside; they end in their order.
        self._atomic: Any = transaction.atomic(using=using, savepoint=False)
        self._depth = 0
        self._is_open = False
        self._had_failed = False

    def __enter__(self) -> None:
        self._had_failed = self._connection.needs_rollback
        self._depth = len(self._connection.savepoint_ids)
        self._atomic.__enter__()
        self._connection.execute_wrappers.append(self._execute)

    def _execute(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        # Where something has failed already, Django refuses the query.
        if not self._is_open and not self._connection.needs_rollback:
            # Before the savepoint is, or it would ask for one as well.
            self._is_open = True
            self._connection.savepoint_ids[self._depth] = self._connection.savepoint()
        return execute(sql, params, many, context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.execute_wrappers.remove(self._execute)
        self._atomic.__exit__(kind, error, traceback)
        if not self._is_open and not self._had_failed:
            # Nothing was done that could be undone, even if Django says so.
            self._connection.needs_rollback = False
