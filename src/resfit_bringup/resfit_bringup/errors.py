"""Errors of the front ends."""


class UsageError(ValueError):
    """The user asked for something that cannot start. One line: value, allowed, fix."""
