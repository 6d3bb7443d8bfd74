"""pytest fixtures, found by themselves where the package is installed."""
