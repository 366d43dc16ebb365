"""Failures that a user can mend, told in a sentence and an exit code."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from audit.errors import AuditError
from data_mix.errors import MixError
from organisms.errors import OrganismError
from recipes.recipe import Resolved
from storage import checkpoints
from storage.errors import StorageError
from train.errors import TrainError

DISK = (
    "No space left",
    "Disk quota",
    "File too large",
    "PytorchStreamWriter failed writing",
    "iostream error",
    "unexpected pos",
)
"""How safetensors and torch put it: neither raises an OSError."""


@dataclass
class Outcome:
    """How it went: 0 well, 2 bad input, 1 anything else that has an explanation."""

    code: int = 0


@contextmanager
def explain(resolved: Resolved) -> Iterator[Outcome]:
    """Turns the failures it knows into a line on stderr; others keep their traceback."""
    outcome = Outcome()
    try:
        yield outcome
    except (TrainError, MixError, OrganismError, AuditError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        outcome.code = 2
    except Exception as error:
        if not _disk_is_full(error):
            raise
        kept = checkpoints.sealed_steps(resolved.run_dir)
        goes_on = f"checkpoint-{kept[-1]} is whole" if kept else "no checkpoint was written yet"
        print(
            f"error: the disk under {resolved.run_dir} is full ({error}). Nothing sealed was lost: {goes_on}. Make room and "
            f"rerun the same command; it goes on from there",
            file=sys.stderr,
        )
        outcome.code = 1


def _disk_is_full(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(words in str(error) for words in DISK)
