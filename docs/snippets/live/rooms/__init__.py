"""The app of docs/howto/live.rst."""
