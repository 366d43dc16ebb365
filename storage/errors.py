"""The error of this package."""


class StorageError(ValueError):
    """Something about the disk or a package that a person can put right; the message says how."""
