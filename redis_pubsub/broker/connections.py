"""A few connections of redis-py's, lent one at a time to threads.

redis-py's own pools measure, name and count each loan, which takes longer than the round
trip. Here a loan is a semaphore, a list and one look whether the server has hung up.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import redis
from redis.exceptions import ConnectionError, RedisError


class Connections:
    """Lends connections.

    Args:
        pool: Makes them.
        size: Most at once.
        wait_s: How long a thread waits for one, if all are lent.
    """

    def __init__(self, pool: redis.ConnectionPool, size: int, wait_s: float) -> None:
        self._pool = pool
        self._size = size
        self._wait_s = wait_s
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._free: list[Any] = []
        self._slots = threading.BoundedSemaphore(self._size)

    @contextmanager
    def one(self) -> Iterator[Any]:
        """A connection that is open, for the block; an error inside closes it.

        Raises:
            RedisError: None can be had.
            OSError: The same.
        """
        if self._pid != os.getpid():
            # A child of a fork: the parent's sockets and waiting threads are not its own.
            self._begin()
        slots = self._slots
        if not slots.acquire(timeout=self._wait_s):
            raise ConnectionError(f"{self._size} threads talk to Redis already")
        try:
            connection = self._open()
            try:
                yield connection
            except BaseException:
                # Replies may be under way that nobody will read.
                connection.disconnect()
                self._pool.release(connection)
                raise
            self._free.append(connection)
        finally:
            slots.release()

    def _open(self) -> Any:
        while self._free:
            try:
                connection = self._free.pop()
            except IndexError:
                break
            try:
                # Open already; one of Sentinel's sees to it that it leads to the master.
                connection.connect()
                if not connection.can_read():
                    return connection
            except (RedisError, OSError):
                pass
            # The server hung up, or says something that nobody asked for.
            connection.disconnect()
            self._pool.release(connection)
        return self._pool.get_connection()

    def close(self) -> None:
        """Close those that nobody has, and those that are lent."""
        self._free.clear()
        self._pool.disconnect()
