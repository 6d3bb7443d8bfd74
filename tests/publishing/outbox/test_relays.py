"""Two writers and two relays at once: complete, once, in commit order."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.may_block(reason="starts processes")

CHANNELS = 4
TRANSACTIONS = 120


def run(world, **options):
    """Two of each; the writers' ledgers."""
    relays = [world.agent("relay_on", **options) for _ in range(2)]
    for relay in relays:
        relay.wait_for("relaying")
    writers = [
        world.agent(
            "write", seed=seed, transactions=TRANSACTIONS, channels=CHANNELS, **options
        )
        for seed in (1, 2)
    ]
    for writer in writers:
        writer.wait_for("written", timeout_s=60)
    while world.waiting():
        world.relay()
    for relay in relays:
        relay.end()
    world.relay()
    return [
        json.loads(line)
        for writer in writers
        for line in writer.output.splitlines()
        if line.startswith("{")
    ]


def faults(world, ledger):
    """What is wrong with what the channels have: lost, phantom, repeated, disordered."""
    found = {"lost": 0, "phantom": 0, "repeated": 0, "disordered": 0}
    for number in range(CHANNELS):
        channel = f"channel-{number}"
        heard = world.heard(channel)
        written = {
            word: (entry["began"], entry["ended"], place)
            for entry in ledger
            for place, (name, word) in enumerate(entry["rows"])
            if name == channel
        }
        found["repeated"] += len(heard) - len(set(heard))
        found["lost"] += len(written.keys() - set(heard))
        found["phantom"] += len(set(heard) - written.keys())
        latest_begin = 0.0
        for word in dict.fromkeys(heard):
            began, ended, _ = written.get(word, (0.0, 9e9, 0))
            # It ended before something that stands before it began.
            found["disordered"] += ended < latest_begin
            latest_begin = max(latest_begin, began)
    return found


def test_two_relays_and_two_writers(world):
    """I1 to I5: whoever publishes, the database's order is the channel's."""
    ledger = run(world)

    assert len(ledger) > TRANSACTIONS
    assert faults(world, ledger) == dict.fromkeys(
        ("lost", "phantom", "repeated", "disordered"), 0
    )


def test_without_locks_it_goes_wrong(world, kind):
    """The twin: two that publish one partition repeat messages."""
    if kind != "postgresql":
        pytest.skip("one database shows it")
    ledger = run(world, unlocked=True)

    found = faults(world, ledger)
    assert found["lost"] == 0 and found["repeated"] + found["disordered"] > 0
