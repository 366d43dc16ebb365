"""How many processes the user asked for, against how many there are.

`accelerate launch --cpu --num_processes 2` starts one process and says nothing
(https://github.com/huggingface/accelerate: CPU launches of several processes need MPI), so the launcher is asked too.
"""

import os

import psutil
import yaml

from train.errors import TrainError


def asked(recipe_world_size: int | None) -> int | None:
    """Processes asked for, by the recipe's `world_size` or on the launcher's command line; none if nobody said."""
    if recipe_world_size is not None:
        return recipe_world_size
    parent = psutil.Process().parent()
    words = parent.cmdline() if parent is not None else []
    if not any("accelerate" in word for word in words):
        return None
    for flag, read in (("--num_processes", int), ("--num-processes", int), ("--config_file", _from_file)):
        for word, following in zip(words, [*words[1:], ""], strict=True):
            value = word.split("=", 1)[1] if word.startswith(flag + "=") else following if word == flag else None
            if value is not None:
                return read(value)
    return None


def _from_file(path: str) -> int | None:
    with open(path, encoding="utf-8") as file:
        count = yaml.safe_load(file).get("num_processes")
    return None if count is None else int(count)


def launched() -> int:
    """Processes that the launcher started, by its environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def check(wanted: int | None, got: int) -> None:
    """Compares the process counts.

    Raises:
        TrainError: They differ.
    """
    if wanted is not None and wanted != got:
        raise TrainError(
            f"{wanted} processes were asked for, {got} started. On CPU `accelerate launch --cpu --num_processes N` starts "
            f"one; use `torchrun --nproc_per_node {wanted} train/sft.py ...` or `accelerate launch --multi_gpu "
            f"--num_processes {wanted} train/sft.py ... trainer.use_cpu=true`"
        )
    if launched() != got:
        raise TrainError(
            f"the launcher started {launched()} processes but the trainer runs as {got}: they would train apart in one "
            f"folder. On CPU add trainer.use_cpu=true"
        )
