"""The same rows with Django Channels, for comparison; runs in an environment of its own."""
