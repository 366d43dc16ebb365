"""Files and folders that appear whole or not at all, also after a kill or a power cut."""

import glob
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically: a reader sees the old file or the new one, never a part.

    Args:
        path: Where; its folder must exist.
        content: The whole content.
    """
    tmp = _beside(path)
    try:
        with tmp.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(tmp, path)
    except BaseException:
        tmp.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 file as `write_bytes` does.

    Args:
        path: Where; its folder must exist.
        text: The whole content.
    """
    write_bytes(path, text.encode())


def write_json(path: Path, obj: Any) -> None:
    """Write `obj` as indented JSON, atomically.

    Args:
        path: Where; its folder must exist.
        obj: Anything `json.dumps` takes.

    Raises:
        ValueError: `obj` holds a NaN or an infinity, which no other JSON reader accepts.
    """
    write_text(path, json.dumps(obj, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def replace_dir(tmp: Path, final: Path) -> None:
    """Move the finished folder `tmp` to `final`, on the same file system.

    Everything in `tmp` is on the disk before the move. An existing `final` is moved aside first and then deleted: a
    kill in between leaves no `final`, never a mixture.

    Args:
        tmp: The finished folder; gone afterwards.
        final: Where it goes.
    """
    for folder, _, files in os.walk(tmp):
        for name in files:
            _sync(Path(folder) / name)
        _sync(Path(folder))
    if final.exists():
        old = _beside(final)
        os.replace(final, old)
        os.replace(tmp, final)
        _sync(final.parent)
        shutil.rmtree(old)
    else:
        os.replace(tmp, final)
        _sync(final.parent)


@contextmanager
def staged_dir(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that becomes `final` when the block ends without an error.

    Hold `storage.lock.folder_lock(final)`: what a killed predecessor left behind is deleted on entry.

    Args:
        final: The folder to make.

    Yields:
        An empty folder on the same file system.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    for stale in final.parent.glob(f".{glob.escape(final.name)}.tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    tmp = _beside(final)
    tmp.mkdir()
    try:
        yield tmp
        replace_dir(tmp, final)
    except BaseException:
        shutil.rmtree(tmp, ignore_errors=True)
        raise


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
