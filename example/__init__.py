"""A small chat site that shows the package at work: ``make demo`` serves it."""
