"""What an audit refuses."""


class AuditError(ValueError):
    """Something the user can mend: the message says what is wrong, where, and what to do."""
