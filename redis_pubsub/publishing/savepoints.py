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
        self._atomic: Any = transaction.atomic(using=using)
        self._is_open = False
        self._had_failed = False

    def __enter__(self) -> None:
        self._had_failed = self._connection.needs_rollback
        self._connection.execute_wrappers.append(self._execute)

    def _execute(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any
    ) -> Any:
        if not self._is_open:
            # Before the savepoint is, or it would ask for one as well.
            self._is_open = True
            self._atomic.__enter__()
        return execute(sql, params, many, context)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._connection.execute_wrappers.remove(self._execute)
        if self._is_open:
            self._atomic.__exit__(kind, error, traceback)
        elif error is not None and not self._had_failed:
            # Nothing was done that could be undone.
            self._connection.needs_rollback = False
