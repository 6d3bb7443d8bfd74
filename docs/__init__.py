"""The documentation; a package so that its snippets can be an app of the tests."""
