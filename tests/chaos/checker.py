"""Reads both ledgers and the table after all is quiet, and says what was not true."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

MUST_BE_ZERO = ("lost", "phantom", "repeated", "reordered", "forked", "gaps", "unfinished")
"""Figures of a `Verdict` that are zero whatever happened."""


@dataclass
class Verdict:
    """What a run came to. Counts of pairs of a client and a row, where not said otherwise.

    Attributes:
        committed: Rows in the table.
        fault_s: How long the fault lasted.
        delivered: Rows given to clients.
        lost: Committed rows of a client's channel that it neither got nor, having been told
            that it missed something, loaded.
        phantom: Delivered rows that were never committed.
        repeated: Delivered again after the client's own dropping of repeats, although it
            was not told of any loss in between.
        repeated_after_told: Delivered again after it was.
        raw_repeats: Repeats that the client drops by their offset.
        reordered: Delivered after a row whose transaction began after theirs was over.
        forked: Positions that stood for different rows with different clients.
        gaps: Jumps in offsets of which the client was not told.
        told: How often a client was told that it was not recovered.
        unfinished: Channels that a client did not hear at the end.
        heal_s: From the end of the fault until every client had every row that was
            committed before; ``None`` if one never had.
        slowest_s: Longest time between a commit and its arrival, told or delivered.
        pause_s: Longest time without any delivery to one client while rows were written.
        codes: Close codes that clients saw, of connections they did not cut themselves.
        http_errors: Requests to the site that got no answer, or an error, since the writer
            began; before that everybody arrives at once.
        http_failures: When after the begin of the fault, and the status, 0 for no answer.
        not_ready_s: How long ``/readyz`` was seen red, over all.
        red_after_s: From the begin of the fault to the first red; ``None`` if never.
        save_errors: Transactions that raised.
        unlogged: Committed rows whose writer died before it could note them.
    """

    committed: int = 0
    fault_s: float = 0.0
    delivered: int = 0
    lost: int = 0
    phantom: int = 0
    repeated: int = 0
    repeated_after_told: int = 0
    raw_repeats: int = 0
    reordered: int = 0
    forked: int = 0
    gaps: int = 0
    told: int = 0
    unfinished: int = 0
    heal_s: float | None = None
    slowest_s: float = 0.0
    pause_s: float = 0.0
    codes: dict[str, int] = field(default_factory=dict)
    http_errors: int = 0
    http_requests: int = 0
    http_failures: list[list[float]] = field(default_factory=list)
    not_ready_s: float = 0.0
    red_after_s: float | None = None
    save_errors: int = 0
    unlogged: int = 0

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class _Heard:
    """One client on one channel."""

    got: dict[str, float] = field(default_factory=dict)
    loaded: dict[str, float] = field(default_factory=dict)
    told_since: set[str] = field(default_factory=set)
    epoch: str = ""
    offset: int = 0
    is_known: bool = False
    latest_begin: float = float("-inf")


class Checker:
    """Args:
    table: Channel and key of each committed row.
    transactions: The writer's ledger.
    events: The clients'.
    fault: When it began and ended.
    is_strict: Commit order counts from the commit, not from the end of the publication.
    """

    def __init__(
        self,
        table: Iterable[tuple[str, str]],
        transactions: Iterable[dict[str, Any]],
        events: Iterable[list[Any]],
        *,
        fault: tuple[float, float],
        is_strict: bool,
        unfinished: int = 0,
    ) -> None:
        self._verdict = Verdict(unfinished=unfinished)
        self._table = {key: channel for channel, key in table}
        self._fault = fault
        self._begin: dict[str, float] = {}
        self._over: dict[str, float] = {}
        self._commit: dict[str, float] = {}
        self._read_transactions(transactions, is_strict)
        self._since = min(self._begin.values(), default=float("-inf"))
        self._heard: dict[tuple[int, str], _Heard] = defaultdict(_Heard)
        self._at: dict[tuple[str, str, int], str] = {}
        self._last: dict[int, float] = {}
        self._codes: Counter[str] = Counter()
        self._red_at: float | None = None
        for event in events:
            self._read(event)

    def verdict(self) -> Verdict:
        verdict = self._verdict
        verdict.committed = len(self._table)
        verdict.fault_s = round(self._fault[1] - self._fault[0], 2)
        verdict.unlogged = len(self._table.keys() - self._begin.keys())
        verdict.codes = dict(self._codes)
        self._complete()
        return verdict

    def _read_transactions(
        self, transactions: Iterable[dict[str, Any]], is_strict: bool
    ) -> None:
        for entry in transactions:
            if "error" in entry:
                self._verdict.save_errors += 1
                continue
            for _, key, _ in entry["rows"]:
                self._begin[key] = entry["begin"]
                if entry["commit"] is not None:
                    self._commit[key] = entry["commit"]
                    self._over[key] = entry["commit" if is_strict else "end"]

    def _read(self, event: list[Any]) -> None:
        if event[0] == "http":
            self._http(*event[1:])
            return
        client, what, at, *values = event
        take = getattr(self, f"_{what}", None)
        if take is not None:
            take(client, at, *values)

    def _http(
        self, path: str, began: float, status: int, took: float, said: str = ""
    ) -> None:
        if path == "/readyz":
            if self._red_at is not None:
                self._verdict.not_ready_s += began - self._red_at
                self._red_at = None
            if status != 200:
                self._red_at = began
                if self._verdict.red_after_s is None and began >= self._fault[0]:
                    self._verdict.red_after_s = round(began - self._fault[0], 2)
            return
        if began < self._since:
            return
        self._verdict.http_requests += 1
        if status != 200:
            self._verdict.http_errors += 1
            self._verdict.http_failures.append([round(began - self._fault[0], 2), status])

    def _sub(
        self,
        client: int,
        at: float,
        channel: str,
        epoch: str,
        offset: int,
        was_recovering: bool,
        is_recovered: bool,
    ) -> None:
        heard = self._heard[client, channel]
        if is_recovered and heard.is_known:
            self._verdict.gaps += heard.epoch != epoch
            return
        if was_recovering:
            self._verdict.told += 1
            heard.told_since.update(heard.got)
        heard.epoch, heard.offset, heard.is_known = epoch, offset, bool(epoch)

    def _pub(
        self,
        client: int,
        at: float,
        channel: str,
        epoch: str,
        offset: int,
        key: str,
        again: bool,
    ) -> None:
        verdict, heard = self._verdict, self._heard[client, channel]
        if again:
            verdict.raw_repeats += 1
            return
        verdict.delivered += 1
        verdict.phantom += key not in self._table
        if key in heard.got:
            told = key in heard.told_since
            verdict.repeated_after_told += told
            verdict.repeated += not told
            heard.told_since.discard(key)
        else:
            heard.got[key] = at
            self._order(heard, key)
        if offset:
            verdict.forked += self._at.setdefault((channel, epoch, offset), key) != key
            if heard.is_known and (epoch, offset) != (heard.epoch, heard.offset + 1):
                verdict.gaps += 1
            heard.epoch, heard.offset, heard.is_known = epoch, offset, True
        if client in self._last:
            verdict.pause_s = max(verdict.pause_s, round(at - self._last[client], 3))
        self._last[client] = at

    def _order(self, heard: _Heard, key: str) -> None:
        self._verdict.reordered += self._over.get(key, float("inf")) < heard.latest_begin
        heard.latest_begin = max(heard.latest_begin, self._begin.get(key, float("-inf")))

    def _close(self, client: int, at: float, code: int, is_cut: bool) -> None:
        if not is_cut:
            self._codes[str(code)] += 1

    def _state(self, client: int, at: float, channel: str, keys: list[str]) -> None:
        loaded = self._heard[client, channel].loaded
        for key in keys:
            loaded.setdefault(key, at)

    def _complete(self) -> None:
        """Who has what, and since when."""
        verdict, healed_at, is_healed = self._verdict, self._fault[1], True
        rows = defaultdict(list)
        for key, channel in self._table.items():
            rows[channel].append(key)
        never = float("inf")
        for (_, channel), heard in self._heard.items():
            for key in rows[channel]:
                seen_at = min(heard.got.get(key, never), heard.loaded.get(key, never))
                committed_at = self._commit.get(key, self._fault[0])
                is_before = committed_at <= self._fault[1]
                if seen_at == never:
                    verdict.lost += 1
                    is_healed = is_healed and not is_before
                    continue
                if is_before:
                    healed_at = max(healed_at, seen_at)
                if key in self._commit:
                    late_s = round(seen_at - committed_at, 3)
                    verdict.slowest_s = max(verdict.slowest_s, late_s)
        if is_healed:
            verdict.heal_s = round(healed_at - self._fault[1], 2)
        verdict.not_ready_s = round(verdict.not_ready_s, 1)
