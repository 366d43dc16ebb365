"""The error of this package."""


class MixError(ValueError):
    """Something about a corpus or a mix that a person can put right; the message says what, where and how."""
