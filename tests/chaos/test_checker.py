"""The checker finds what it is there for, and nothing else."""

from __future__ import annotations

from typing import Any

from .checker import Checker, Verdict

ROOM = "room:00"


def transaction(key: str, begin: float, commit: float | None, end: float) -> dict[str, Any]:
    return {"begin": begin, "commit": commit, "end": end, "rows": [[ROOM, key, 1]]}


def sub(
    at: float, offset: int, *, told: bool = False, recovered: bool = False
) -> list[Any]:
    return [0, "sub", at, ROOM, "e", offset, told or recovered, recovered]


def pub(at: float, offset: int, key: str, epoch: str = "e", client: int = 0) -> list[Any]:
    return [client, "pub", at, ROOM, epoch, offset, key, False]


ROWS = [transaction("a", 1, 1.1, 1.2), transaction("b", 2, 2.1, 2.2)]


def check(*events: list[Any], table: str = "ab", rows: Any = ROWS) -> Verdict:
    return Checker(
        [(ROOM, key) for key in table], rows, events, fault=(1.5, 3.0), is_strict=True
    ).verdict()


def wrong(verdict: Verdict) -> dict[str, int]:
    names = ("lost", "phantom", "repeated", "reordered", "forked", "gaps")
    return {name: getattr(verdict, name) for name in names if getattr(verdict, name)}


def test_a_run_without_faults_is_clean():
    verdict = check(sub(0, 0), pub(1.3, 1, "a"), pub(2.3, 2, "b"))

    assert wrong(verdict) == {}
    assert (verdict.committed, verdict.delivered, verdict.told) == (2, 2, 0)
    assert verdict.heal_s == 0


def test_a_row_that_never_came_is_lost_and_its_hole_is_a_gap():
    verdict = check(sub(0, 0), pub(2.3, 2, "b"))

    assert wrong(verdict) == {"lost": 1, "gaps": 1}
    assert verdict.heal_s is None


def test_a_row_that_was_loaded_after_being_told_is_not_lost():
    verdict = check(
        sub(0, 0),
        pub(1.3, 1, "a"),
        sub(4.0, 2, told=True),
        [0, "state", 4.5, ROOM, ["a", "b"]],
    )

    assert wrong(verdict) == {}
    assert verdict.told == 1
    assert verdict.heal_s == 1.5


def test_being_told_without_loading_is_still_a_loss():
    verdict = check(sub(0, 0), pub(1.3, 1, "a"), sub(4.0, 2, told=True))

    assert wrong(verdict) == {"lost": 1}


def test_a_recovery_goes_on_where_the_client_was():
    verdict = check(
        sub(0, 0), pub(1.3, 1, "a"), sub(3.2, 1, recovered=True), pub(3.2, 2, "b")
    )

    assert wrong(verdict) == {}


def test_a_recovery_that_skips_is_a_gap():
    rows = [*ROWS, transaction("c", 3, 3.1, 3.2)]
    verdict = check(
        sub(0, 0),
        pub(1.3, 1, "a"),
        sub(3.2, 1, recovered=True),
        pub(3.2, 3, "c"),
        table="abc",
        rows=rows,
    )

    assert wrong(verdict) == {"lost": 1, "gaps": 1}


def test_a_row_that_was_rolled_back_is_a_phantom():
    verdict = check(sub(0, 0), pub(1.3, 1, "a"), pub(2.3, 2, "b"), table="a")

    assert wrong(verdict) == {"phantom": 1}


def test_a_row_under_a_second_offset_is_repeated():
    verdict = check(sub(0, 0), pub(1.3, 1, "a"), pub(2.3, 2, "b"), pub(2.4, 3, "a"))

    assert wrong(verdict) == {"repeated": 1}


def test_a_row_that_comes_again_after_being_told_is_counted_apart():
    verdict = check(
        sub(0, 0),
        pub(1.3, 1, "a"),
        [0, "sub", 2.0, ROOM, "f", 0, True, False],
        [0, "state", 2.05, ROOM, ["a"]],
        pub(2.1, 1, "a", "f"),
        pub(2.3, 2, "b", "f"),
    )

    assert wrong(verdict) == {}
    assert verdict.repeated_after_told == 1


def test_rows_against_their_commits_are_reordered():
    verdict = check(sub(0, 0), pub(2.3, 1, "b"), pub(2.4, 2, "a"))

    assert wrong(verdict) == {"reordered": 1}


def test_rows_of_overlapping_transactions_may_come_in_either_order():
    rows = [transaction("a", 1, 2.05, 2.1), transaction("b", 2, 2.1, 2.2)]

    verdict = check(sub(0, 0), pub(2.3, 1, "b"), pub(2.4, 2, "a"), rows=rows)

    assert wrong(verdict) == {}


def test_an_epoch_that_changes_unsaid_is_a_gap():
    verdict = check(sub(0, 0), pub(1.3, 1, "a"), pub(2.3, 1, "b", "f"))

    assert wrong(verdict) == {"gaps": 1}


def test_one_position_for_two_rows_is_a_fork():
    other = [1, "sub", 0, ROOM, "e", 0, False, False]

    verdict = check(
        sub(0, 0),
        other,
        pub(1.3, 1, "a"),
        pub(2.3, 1, "b", client=1),
        pub(2.4, 2, "b"),
        pub(2.4, 2, "a", client=1),
    )

    assert verdict.forked == 2


def test_requests_fail_from_the_first_transaction_on():
    """Before it all clients arrive at once, which is no fault's doing."""
    verdict = check(
        ["http", "/", 0.5, 0, 10.0, ""],
        ["http", "/", 1.0, 200, 0.1, ""],
        ["http", "/", 2.0, 0, 10.0, ""],
    )

    assert (verdict.http_errors, verdict.http_requests) == (1, 2)
    assert verdict.http_failures == [[0.5, 0]]
