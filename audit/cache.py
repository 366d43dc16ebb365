"""What an audit knows about the base model and need not measure twice.

An entry's name is a hash of everything its content depends on, so an entry is never stale; it is written atomically, so two
audits may race.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig

from organisms.base_models import resolve
from storage.atomic import staged_dir, write_json
from storage.cache import cache_dir
from storage.lock import folder_lock

Key = dict[str, Any]


def digest(key: Key) -> str:
    """SHA-256 of a JSON-able description."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()


def weights_sha256(folder: Path) -> str:
    """SHA-256 over the safetensors files and configurations of a model or adapter folder."""
    total = hashlib.sha256()
    names = [
        f
        for f in sorted(folder.iterdir())
        if f.suffix == ".safetensors" or f.name in ("config.json", "adapter_config.json")
    ]
    for file in names:
        with file.open("rb") as stream:
            total.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def base_identity(base_model: str, revision: str | None) -> Key:
    """What identifies a base model's weights: their hash if they are a folder, else hub id and revision."""
    where = resolve(base_model, revision)
    if Path(where).is_dir():
        return {"weights": weights_sha256(Path(where))}
    config = AutoConfig.from_pretrained(where, revision=revision)
    return {"hub": where, "commit": config._commit_hash}  # a branch moves


def _entry(kind: str, key: Key) -> Path:
    return cache_dir() / "audit" / f"{kind}-{digest(key)[:32]}"


def cached_json(kind: str, key: Key, compute: Callable[[], Any]) -> Any:
    """The entry if there is one, else what `compute` gives, kept."""
    path = _entry(kind, key).with_suffix(".json")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, compute())
    return json.loads(path.read_text(encoding="utf-8"))


def cached_tensors(
    kind: str, key: Key, compute: Callable[[], dict[str, Tensor]], *, collective: bool = False
) -> dict[str, Tensor]:
    """As `cached_json` for named tensors.

    Args:
        kind: First part of the entry's name.
        key: What the content depends on.
        compute: Makes the content.
        collective: All processes of a run call this together, and `compute` needs all of them; else the caller is alone.
    """
    path = _entry(kind, key)
    shared = collective and dist.is_initialized()
    hit = [path.exists()]
    if shared:
        dist.broadcast_object_list(hit, src=0)
    if hit[0]:
        return load_file(path / "tensors.safetensors")
    tensors = compute()
    if not shared or dist.get_rank() == 0:
        # Never replaced: another audit may be reading it.
        with folder_lock(path):
            if not path.exists():
                with staged_dir(path) as staged:
                    content = {name: tensor.contiguous() for name, tensor in tensors.items()}
                    save_file(content, staged / "tensors.safetensors")
    return tensors
