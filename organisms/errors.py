"""The error of this package."""


class OrganismError(ValueError):
    """A model, an organism or its files cannot be used; the message says which, why and what to do."""
