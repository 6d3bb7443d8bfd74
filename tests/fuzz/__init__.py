"""Whatever bytes a stranger, or whoever can write to Redis, sends to our decoders.

Seconds of it run with the tests; for long: ``python -m tests.fuzz TARGET --seconds 600``,
led by coverage where atheris is installed. ``corpus`` keeps what once mattered.
"""
