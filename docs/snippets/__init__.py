"""What the documentation shows; every file is executed by ``tests/docs``."""
