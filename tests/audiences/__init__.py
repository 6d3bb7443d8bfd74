"""Not everybody sees the same."""
