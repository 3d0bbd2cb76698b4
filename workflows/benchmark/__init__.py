"""The suites of `fanfold benchmark`."""
