"""Checkpoints that are whole or not there: sealing, checking, finding the last one.

A checkpoint is sealed by a marker that is renamed into place last and holds the hashes of all other files. Nothing is
audited, resumed or collected from a checkpoint without a valid seal.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path

from storage.atomic import write_json
from storage.errors import StorageError

SEAL = "SEALED.json"
AUDIT = "audit"


def path(run: Path, step: int) -> Path:
    """Folder of the checkpoint at `step`."""
    return run / f"checkpoint-{step}"


def step(checkpoint: Path) -> int:
    """Optimizer step of a checkpoint's folder."""
    return int(checkpoint.resolve().name.split("-")[1])


def seal(checkpoint: Path) -> None:
    """Brings a checkpoint's files to the disk, then writes the marker. Call it once every process has written its files."""
    for file in checkpoint.rglob("*"):
        if file.is_file():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
    write_json(checkpoint / SEAL, {"schema": 1, "step": step(checkpoint), "sha256": hashes(checkpoint)})


def hashes(checkpoint: Path) -> dict[str, str]:
    """SHA-256 of every file of a checkpoint but the marker and the audit's folder."""
    found = {}
    for file in sorted(checkpoint.rglob("*")):
        relative = file.relative_to(checkpoint)
        if file.is_file() and relative.parts[0] not in (SEAL, AUDIT) and not relative.name.startswith("."):
            with file.open("rb") as stream:
                found[relative.as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def is_sealed(checkpoint: Path) -> bool:
    """Whether the marker is there; `verify` checks what it says."""
    return (checkpoint / SEAL).exists()


def verify(checkpoint: Path) -> None:
    """Compares a checkpoint with its seal.

    Raises:
        StorageError: It is not sealed, or a file is missing, added or changed.
    """
    if not is_sealed(checkpoint):
        raise StorageError(
            f"{checkpoint} is not sealed: saving it was interrupted. Rerun the training command; it goes on from the last "
            f"sealed checkpoint"
        )
    sealed = json.loads((checkpoint / SEAL).read_text(encoding="utf-8"))["sha256"]
    actual = hashes(checkpoint)
    for name in sorted(sealed.keys() | actual.keys()):
        if sealed.get(name) != actual.get(name):
            state = "is missing" if name not in actual else "was added" if name not in sealed else "was changed"
            raise StorageError(
                f"{checkpoint / name} {state} after the checkpoint was sealed. Restore it, or delete {checkpoint} and "
                f"rerun the training command"
            )


def sealed_steps(run: Path) -> list[int]:
    """Steps of a run that have a sealed checkpoint, ascending."""
    return sorted(step(folder) for folder in _folders(run) if is_sealed(folder))


def drop_unsealed(run: Path) -> list[Path]:
    """Deletes half-written checkpoints, so that what is saved again there holds nothing old."""
    dropped = [folder for folder in _folders(run) if not is_sealed(folder)]
    for folder in dropped:
        shutil.rmtree(folder)
    return dropped


def _folders(run: Path) -> list[Path]:
    """Folders that training makes; a person's `checkpoint-best` is left alone."""
    return [folder for folder in run.glob("checkpoint-*") if folder.name.removeprefix("checkpoint-").isdecimal()]
