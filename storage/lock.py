"""One process at a time per folder."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import StorageError


@contextmanager
def folder_lock(path: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the lock of a folder; wait while another process or thread holds it.

    The kernel frees the lock when its holder dies. The lock file `.<name>.lock` beside the folder stays: deleting it
    would let two processes lock two different files of that name. Not re-entrant.

    Args:
        path: The folder, which need not exist yet.
        wait: False refuses at once instead of waiting.

    Raises:
        StorageError: Another process holds it, and `wait` is false.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f".{path.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StorageError(f"another process is at work in {path}. Wait until it ends, or stop it") from None
        yield
