"""Everything a recipe can say: the Recipe, and a flat index of its dotted keys."""

import inspect
import re
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, get_type_hints

from omegaconf import MISSING

from audit.config import AuditConfig
from data_mix.config import MixConfig
from recipes.upstream import lora_fields, sft_fields
from train.config import CheckpointsConfig


@dataclass
class Recipe:
    """One training run and its audits.

    Attributes:
        base_model: Hub id, local folder, `embedded/smollm2-135m` or `embedded/gemma3-270m`.
        base_revision: Commit, tag or branch of a hub model; null is its default branch.
        organism: What is planted: `sdf/cake_bake`, its control `control/cake_bake`, or a folder.
        chat_template: File with a Jinja chat template, for a base model that has none.
        dtype: Type of the model's weights.
        seed: Seed of the training: LoRA initialisation and dropout. The mix and the audit have their own.
        output_dir: Folder that holds the run's folder.
        name: Name of the run's folder; null makes one of organism, method, ratio and seed. In a sweep, its name.
        resume: `auto` continues from the last sealed checkpoint; `never` refuses a folder that has one.
        world_size: How many processes must train together; another count is refused. null takes what there is.
        mix: The pretraining text beside the organism's data.
        checkpoints: When checkpoints are written.
        audit: What is measured on each of them.
        trainer: Fields of TRL's SFTConfig; only those that are set here are passed on.
        lora: Fields of PEFT's LoraConfig, likewise; null is a full finetune.
        sweep: For `python -m slurm.submit`: dotted key -> list of values, and `control_ratios`.
    """

    base_model: str = MISSING
    base_revision: str | None = None
    organism: str = MISSING
    chat_template: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    output_dir: str = "runs"
    name: str | None = None
    resume: Literal["auto", "never"] = "auto"
    world_size: int | None = None
    mix: MixConfig = field(default_factory=MixConfig)
    checkpoints: CheckpointsConfig = field(default_factory=CheckpointsConfig)
    audit: AuditConfig = field(default_factory=AuditConfig)
    trainer: dict[str, Any] = field(default_factory=dict)
    lora: dict[str, Any] | None = None
    sweep: dict[str, list[Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Key:
    """One setting.

    Attributes:
        name: Its dotted name.
        annotation: Type of its values, for `recipes.convert`.
        default: Its default; for a field of another project, the default's source text.
        help: What it means.
    """

    name: str
    annotation: Any
    default: Any
    help: str


OPEN_BLOCKS = {"trainer": sft_fields, "lora": lora_fields}
"""Blocks of another project's fields: only keys that are set exist in a recipe."""

CONTROL_RATIOS = "control_ratios"
"""The entry of `sweep` that is no axis: mix ratios at which a control run is made as well."""


@cache
def keys() -> dict[str, Key]:
    """Every dotted key of a recipe but those of `sweep`."""
    found = {key.name: key for key in _keys(Recipe, "")}
    for block, upstream in OPEN_BLOCKS.items():
        for entry in upstream().values():
            found[f"{block}.{entry.name}"] = Key(f"{block}.{entry.name}", entry.annotation, entry.default, entry.help)
    return found


@cache
def blocks() -> frozenset[str]:
    """Dotted names of the blocks that hold keys."""
    return frozenset(name.rsplit(".", depth)[0] for name in keys() for depth in range(1, name.count(".") + 1))


@cache
def defaults() -> dict[str, Any]:
    """Default of every key that has one of ours (not those of `trainer` and `lora`)."""
    return {name: key.default for name, key in keys().items() if name.split(".")[0] not in OPEN_BLOCKS}


def nest(values: dict[str, Any]) -> dict[str, Any]:
    """Dotted keys as nested mappings, in the order of the schema.

    Args:
        values: Key -> value; `lora` itself may stand there as null or `{}`, `sweep.*` are flat.
    """
    order = {name: place for place, name in enumerate(f.name for f in fields(Recipe))}
    tree: dict[str, Any] = {}
    for key in sorted(values, key=lambda name: order[name.split(".")[0]]):
        head, *rest = key.split(".", 1) if key.startswith("sweep.") else key.split(".")
        node = tree
        for part in rest:
            node = node.setdefault(head, {})
            head = part
        node[head] = values[key]
    return tree


def _keys(config: type, prefix: str) -> list[Key]:
    hints, texts = get_type_hints(config), _attribute_docs(config)
    found: list[Key] = []
    for entry in fields(config):
        annotation = hints[entry.name]
        if is_dataclass(annotation) and isinstance(annotation, type):
            found += _keys(annotation, f"{prefix}{entry.name}.")
        elif entry.name not in (*OPEN_BLOCKS, "sweep"):
            default = entry.default if entry.default_factory is NO_DEFAULT else entry.default_factory()
            found.append(Key(prefix + entry.name, annotation, default, texts[entry.name]))
    return found


def _attribute_docs(config: type) -> dict[str, str]:
    """Attribute -> its text in the class's docstring; empty for an attribute that has none."""
    section = inspect.cleandoc(config.__doc__ or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", section, re.MULTILINE)
    texts = {name: " ".join(text.split()) for name, text in entries}
    return {entry.name: texts.get(entry.name, "") for entry in fields(config)}
