"""Errors that prevent a test from starting."""


class CannotRun(Exception):
    """The test cannot start; the message says what to do about it."""
