"""One connection on which messages are written before earlier ones are answered.

Not for two threads at once: `Posting` sees to that, and to whoever wants to know what
became of the messages.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import ConnectionError, RedisError, ResponseError, TimeoutError

from ..exceptions import BrokerUnavailable
from .base import Settled
from .commands import Command, checked, not_loaded
from .posts import Post
from .replication import REPLICATION, Replication, ServerChanged
from .scripts import PUBLISH

LATE_S = 0.5
"""An answer that takes longer is waited for before anything newer is written."""
LOOK_S = 1.0
"""How often a connection that is never idle is asked whether it leads to the master."""

_LOAD = ("SCRIPT", "LOAD", PUBLISH.text)


class Line:
    """Opened at the first write, and anew when it was lost.

    Args:
        pool: Makes the connection.
        replication: Which server it leads to.
        timeout_s: How long an answer may take.
        moves: Whether an open connection may have to lead elsewhere, as with Sentinel.

    Attributes:
        told: What became of messages, for the owner to pass on.
        failures: How often Redis could not be reached, or did not answer in time.
    """

    def __init__(
        self,
        pool: redis.ConnectionPool,
        replication: Replication,
        timeout_s: float,
        *,
        moves: bool,
    ) -> None:
        self.told: deque[tuple[Settled, BrokerUnavailable | None]] = deque()
        self.failures = 0
        self._pool = pool
        self._replication = replication
        self._timeout_s = timeout_s
        self._moves = moves
        self._connection: Any = None
        self._posts: deque[Post] = deque()
        self._messages = 0
        self._bytes = 0
        self._looked_at = 0.0

    @property
    def is_answered(self) -> bool:
        """Whether there is an answer to everything that was written."""
        return not self._posts

    def write(self, commands: Sequence[Command], settled: Settled) -> None:
        """Write messages behind those before.

        Raises:
            RedisError: They may not have been sent; ``settled`` will not be called.
            OSError: The same.
        """
        self.read_there()
        if self._posts and (
            self._posts[0].waited_s > LATE_S or time.monotonic() - self._looked_at > LOOK_S
        ):
            self.read_all()
        try:
            self._write(commands, settled)
        except ServerChanged:
            # Nothing was sent; now that the server is known, it is.
            self._write(commands, settled)

    def _write(self, commands: Sequence[Command], settled: Settled) -> None:
        self._replication.begin()
        ready = [self._replication.ready(command) for command in commands]
        # A missing script would show in the answer, when newer messages may be out.
        before: list[Command] = [_LOAD] if self._open() else []
        if self._replication.is_due():
            before.append(REPLICATION)
        packed = self._packed([*before, *ready])
        size = sum(map(len, packed))
        # First: a signal's handler that raises must not leave more answers than posts.
        self._append(Post(before, commands, size, time.monotonic(), settled))
        try:
            self._connection.send_packed_command(packed)
        except (RedisError, OSError) as error:
            self._posts.pop()
            self.lose(error)
            raise

    def _packed(self, commands: list[Command]) -> list[bytes]:
        # One is the rule, and packed in half the time by itself.
        connection = self._connection
        packed: list[bytes] = (
            connection.pack_command(*commands[0])
            if len(commands) == 1
            else connection.pack_commands(commands)
        )
        return packed

    def _append(self, post: Post) -> None:
        self._posts.append(post)
        self._messages += len(post.commands)
        self._bytes += post.size

    def _open(self) -> bool:
        """Have a connection.

        Returns:
            Whether it is a new one.
        """
        if self._connection is not None and not self._posts and not self._is_usable():
            self._drop()
        if self._connection is not None:
            return False
        try:
            self._connection = self._pool.get_connection()
        except ServerChanged:
            raise
        except (RedisError, OSError):
            self.failures += 1
            raise
        self._looked_at = time.monotonic()
        return True

    def _is_usable(self) -> bool:
        """Whether the connection is the one it was, with nothing to be read."""
        self._looked_at = time.monotonic()
        socket = self._connection._sock
        try:
            if self._moves:
                # Open already; this sees to it that it leads to the master.
                self._connection.connect()
            return (
                socket is not None
                and self._connection._sock is socket
                and not self._connection.can_read()
            )
        except (RedisError, OSError):
            return False

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        connection.disconnect()
        self._pool.release(connection)

    def lose(self, error: BaseException) -> None:
        """Give the connection up, and every message that has no answer."""
        if isinstance(error, TimeoutError):
            self.failures += 1
        posts, self._posts = self._posts, deque()
        self._messages = self._bytes = 0
        for post in posts:
            unavailable = BrokerUnavailable(f"Redis: {error}")
            unavailable.__cause__ = error
            self.told.append((post.settled, unavailable))
        if self._connection is not None:
            self._drop()

    # -- answers ---------------------------------------------------------------------------

    def read_there(self) -> None:
        """Read the answers that have come; give up what has none for too long."""
        try:
            while self._posts and self._can_read():
                self._take()
            if self._posts and self._posts[0].waited_s > self._timeout_s:
                raise TimeoutError(f"no answer within {self._timeout_s:g} s")
        except (RedisError, OSError) as error:
            self.lose(error)

    def is_over(self, most: int, most_bytes: int) -> bool:
        """Whether answers to more than so many messages, or bytes, are missing."""
        return self._messages > most or self._bytes > most_bytes

    def read_all(self) -> None:
        """Wait for the answers. If the connection is lost meanwhile, there are none.

        Raises:
            TimeoutError: Redis hangs; what is unanswered is given up.
        """
        deadline = time.monotonic() + self._timeout_s
        while self._posts:
            try:
                if not self._can_read(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError(f"no answer within {self._timeout_s:g} s")
                self._take()
            except TimeoutError as error:
                self.lose(error)
                raise
            except (RedisError, OSError) as error:
                self.lose(error)

    def _can_read(self, wait_s: float = 0.0) -> bool:
        if not self._connection.is_connected:
            # It would open another, which has no answers to what was written to this one.
            raise ConnectionError("interrupted")
        readable: bool = self._connection.can_read(wait_s)
        return readable

    def _take(self) -> None:
        """Read the next reply."""
        try:
            self._take_next()
        except BaseException:
            # A signal's handler, perhaps: nobody knows whose answer is next.
            self._connection.disconnect()
            raise

    def _take_next(self) -> None:
        post = self._posts[0]
        self._read(post)
        if not post.is_answered:
            return
        if not_loaded(post.outcomes):
            self._send_again()
        else:
            self._pop()

    def _read(self, post: Post) -> None:
        reply = answer(self._connection)
        number = len(post.replies)
        if number < len(post.before) and post.before[number] is REPLICATION:
            self._replication.read(reply)
        post.replies.append(reply)

    def _pop(self, place: int = 0) -> None:
        """Tell of a post; only then there is nothing more of it to wait for."""
        post = self._posts[place]
        self._tell(post)
        del self._posts[place]
        self._messages -= len(post.commands)
        self._bytes -= post.size

    def _send_again(self) -> None:
        """Redis has forgotten the script while the connection was open (``SCRIPT FLUSH``):
        what was written since is refused as well, and is sent again in its order before
        anything newer is."""
        refused = 0
        while refused < len(self._posts):
            post = self._posts[refused]
            while not post.is_answered:
                self._read(post)
            if not_loaded(post.outcomes):
                refused += 1
            else:
                self._pop(refused)
        places = [(post, i) for post in self._posts for i in not_loaded(post.outcomes)]
        ready = [self._replication.ready(post.commands[i]) for post, i in places]
        packed = self._packed([_LOAD, *ready])
        self._connection.send_packed_command(packed)
        answer(self._connection)
        for post, i in places:
            post.replies[len(post.before) + i] = answer(self._connection)
        while self._posts:
            self._pop()

    def _tell(self, post: Post) -> None:
        outcome = None
        try:
            checked(post.outcomes)
        except BrokerUnavailable as error:
            outcome = error
        self.told.append((post.settled, outcome))


def answer(connection: Any) -> Any:
    """The next reply; the error, if Redis answered with one."""
    try:
        return connection.read_response()
    except ResponseError as error:
        return error
