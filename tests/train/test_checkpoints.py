"""Checkpoints are whole or not there."""

import errno
import os
from pathlib import Path

import pytest

from storage import checkpoints
from storage.errors import StorageError


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = checkpoints.path(tmp_path, 12)
    (folder / "shards").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "shards" / "a").write_bytes(b"a")
    return folder


def test_a_seal_holds_the_hash_of_every_file(checkpoint: Path) -> None:
    assert not checkpoints.is_sealed(checkpoint)
    checkpoints.seal(checkpoint)
    assert checkpoints.is_sealed(checkpoint)
    assert set(checkpoints.hashes(checkpoint)) == {"model.safetensors", "shards/a"}
    checkpoints.verify(checkpoint)
    assert checkpoints.step(checkpoint) == 12


def test_the_audit_is_no_part_of_what_is_sealed(checkpoint: Path) -> None:
    checkpoints.seal(checkpoint)
    (checkpoint / checkpoints.AUDIT).mkdir()
    (checkpoint / checkpoints.AUDIT / "audit.json").touch()
    (checkpoint / ".audit.json.tmp-1-a").touch()
    checkpoints.verify(checkpoint)


@pytest.mark.parametrize(
    ("name", "content", "state"),
    [
        ("model.safetensors", b"weightz", "was changed"),
        ("shards/a", None, "is missing"),
        ("shards/b", b"", "was added"),
    ],
)
def test_what_differs_from_the_seal_is_named(checkpoint: Path, name: str, content: bytes | None, state: str) -> None:
    checkpoints.seal(checkpoint)
    if content is None:
        (checkpoint / name).unlink()
    else:
        (checkpoint / name).write_bytes(content)
    with pytest.raises(StorageError, match=f"{name} {state} after the checkpoint was sealed"):
        checkpoints.verify(checkpoint)


def test_without_a_seal_nothing_is_trusted(checkpoint: Path) -> None:
    with pytest.raises(StorageError, match="is not sealed"):
        checkpoints.verify(checkpoint)


def test_a_seal_that_cannot_be_written_leaves_none(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: object, target: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.seal(checkpoint)
    assert not checkpoints.is_sealed(checkpoint)
    assert sorted(path.name for path in checkpoint.iterdir()) == ["model.safetensors", "shards"]


def test_steps_are_in_the_order_of_numbers_and_only_sealed_ones(checkpoint: Path) -> None:
    run = checkpoint.parent
    for step in (9, 100):
        checkpoints.path(run, step).mkdir()
        checkpoints.seal(checkpoints.path(run, step))
    assert checkpoints.sealed_steps(run) == [9, 100]
    checkpoints.seal(checkpoint)
    assert checkpoints.sealed_steps(run) == [9, 12, 100]
    assert checkpoints.sealed_steps(run / "nowhere") == []


def test_half_written_checkpoints_are_dropped_and_a_persons_folders_are_not(checkpoint: Path) -> None:
    run = checkpoint.parent
    checkpoints.path(run, 9).mkdir()
    checkpoints.seal(checkpoints.path(run, 9))
    mine = run / "checkpoint-best"
    mine.mkdir()
    (mine / checkpoints.SEAL).touch()
    (run / "checkpoint-backup").mkdir()
    assert checkpoints.sealed_steps(run) == [9]
    assert checkpoints.drop_unsealed(run) == [checkpoint]
    assert sorted(path.name for path in run.iterdir()) == ["checkpoint-9", "checkpoint-backup", "checkpoint-best"]
