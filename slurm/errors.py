"""The error of this package."""


class SweepError(ValueError):
    """A sweep that a person can put right; the message says how."""
