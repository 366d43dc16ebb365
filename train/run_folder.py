"""The run's folder: whose it is, and the manifest of what made it."""

import importlib.metadata
import json
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import torch

from data_mix.ledger import Ledger
from recipes.recipe import Resolved, load_saved, save
from storage import checkpoints
from storage.atomic import write_json
from train.errors import TrainError

PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "safetensors", "numpy")


def claim(run: Path, resolved: Resolved) -> None:
    """Makes the folder, or checks that it is this recipe's.

    Raises:
        TrainError: It holds a run of another recipe, or `resume=never` and it holds a run.
    """
    saved = run / "recipe.yaml"
    if saved.exists():
        old = load_saved(saved)
        if old.identity != resolved.identity:
            changed = "; ".join(resolved.differences(old))
            raise TrainError(
                f"{run} holds a run of another recipe ({changed}). Give another name=... or output_dir=..., or delete it"
            )
        if resolved.recipe.resume == "never" and (run / "log.jsonl").exists():
            raise TrainError(f"{run} holds a run already and resume=never. Give another name=..., or delete it")
        return
    run.mkdir(parents=True, exist_ok=True)
    save(resolved, saved)


def check_same_mix(run: Path, ledger: Ledger) -> None:
    """Compares a mix with the one that the run's checkpoints were trained on.

    Raises:
        TrainError: They differ: other data, another corpus, or other rows an optimizer step.
    """
    if not checkpoints.sealed_steps(run):
        return
    old = Ledger.from_json(json.loads((run / "mix.json").read_text(encoding="utf-8")))
    if (old.order_sha256, old.batch_rows, old.steps) != (ledger.order_sha256, ledger.batch_rows, ledger.steps):
        raise TrainError(
            f"{run} was trained on another mix: {old.steps} steps of {old.batch_rows} rows there, {ledger.steps} of "
            f"{ledger.batch_rows} now, order {old.order_sha256[:8]} there, {ledger.order_sha256[:8]} now. Go on with the same "
            f"organism data, corpus, tokenizer, processes and batch size, or give another name=..."
        )


def effective_lora_scale(alpha: float, rank: int, rslora: bool) -> float:
    """Factor on the adapter's product BA: alpha / r, or alpha / sqrt(r) with rank-stabilised LoRA."""
    return alpha / rank**0.5 if rslora else alpha / rank


def write_manifest(run: Path, facts: dict[str, Any]) -> None:
    """Writes manifest.json: `facts` beside the environment."""
    write_json(
        run / "manifest.json",
        {
            "schema": 1,
            **facts,
            "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
            "python": platform.python_version(),
            "platform": platform.platform(),
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "threads": torch.get_num_threads(),
            "git": git_state(),
        },
    )


def git_state() -> dict[str, Any] | None:
    """Commit and whether the tree was changed; none outside a checkout."""
    folder = Path(__file__).resolve().parent
    if shutil.which("git") is None:
        return None

    def ask(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=False)

    head = ask("rev-parse", "HEAD")
    if head.returncode:
        return None
    return {"commit": head.stdout.strip(), "dirty": bool(ask("status", "--porcelain").stdout.strip())}
