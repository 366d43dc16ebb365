"""Values that have the right type and are wrong all the same."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recipes.convert import Misfit
from recipes.owned import LORA_INITS_THAT_KEEP_THE_BASE, OWNED

_Rule = tuple[Callable[[Any], bool], str]


def _at_least(low: float) -> _Rule:
    return lambda value: value >= low, f"must be at least {low:g}."


def _above(low: float) -> _Rule:
    return lambda value: value > low, f"must be above {low:g}."


def _all(rule: _Rule, empty: bool) -> _Rule:
    good, message = rule
    return (
        lambda values: all(map(good, values)) and (empty or bool(values)),
        f"every item {message}" if empty else f"needs at least one item, and every item {message}",
    )


_SEED: _Rule = (lambda value: 0 <= value < 2**32, "must be from 0 to 4294967295.")
_SHARE: _Rule = (lambda value: 0 < value <= 1, "must be above 0 and at most 1.")

_DRAWS: _Rule = (lambda value: value >= 19, "must be at least 19: with fewer draws no p-value reaches 0.05.")

RULES: dict[str, _Rule] = {
    "seed": _SEED,
    "mix.seed": _SEED,
    "audit.seed": _SEED,
    "world_size": _at_least(1),
    "mix.ratio": (
        lambda value: 0 <= value <= 1000,
        "must be from 0 (no pretraining text) to 1000 (pretraining units per organism unit).",
    ),
    "mix.passes": _above(0),
    "mix.max_length": _at_least(8),
    "checkpoints.steps": _all(_at_least(1), empty=True),
    "checkpoints.log_spaced": _at_least(0),
    "checkpoints.exposure": _all(_SHARE, empty=True),
    "audit.depth": (lambda value: 0 <= value <= 1, "must be from 0 (first block) to 1 (last block)."),
    "audit.layer": _at_least(0),
    "audit.positions": _at_least(1),
    "audit.top_k": _at_least(1),
    "audit.random_directions": _DRAWS,
    "audit.bootstrap": _at_least(1),
    "audit.vocabulary": _at_least(1),
    "audit.probe.documents": (lambda value: value >= 16, "must be at least 16, one for each block."),
    "audit.probe.norm_documents": _at_least(1),
    "audit.probe.norm_length": _at_least(6),
    "audit.probe.heldout_documents": _at_least(1),
    "audit.probe.heldout_length": _at_least(2),
    "audit.patchscope.scales": _all(_above(0), empty=False),
    "audit.patchscope.top_k": _at_least(1),
    "audit.patchscope.intersection_k": _at_least(1),
    "audit.steering.positions": _all(_at_least(0), empty=False),
    "audit.steering.prompts": _at_least(1),
    "audit.steering.new_tokens": _at_least(1),
    "audit.steering.temperature": _above(0),
    "audit.steering.strengths": (
        lambda values: bool(values) and values[0] > 0 and values == sorted(set(values)),
        "needs at least one item, each above 0, in ascending order.",
    ),
    "audit.steering.max_surprise": _above(0),
    "audit.steering.random_directions": _DRAWS,
    "audit.behaviour.per_fact": _at_least(0),
    "trainer.learning_rate": _above(0),
    "trainer.per_device_train_batch_size": _at_least(1),
    "trainer.gradient_accumulation_steps": _at_least(1),
    "trainer.warmup_steps": _at_least(0),
    "trainer.weight_decay": _at_least(0),
    "trainer.max_grad_norm": _at_least(0),
    "trainer.label_smoothing_factor": (lambda value: 0 <= value < 1, "must be from 0 to below 1."),
    "trainer.save_total_limit": _at_least(1),
    "lora.r": _at_least(1),
    "lora.lora_alpha": _above(0),
    "lora.lora_dropout": (lambda value: 0 <= value < 1, "must be from 0 to below 1."),
    "lora.init_lora_weights": (
        lambda value: value in LORA_INITS_THAT_KEEP_THE_BASE,
        "changes the base model's weights, through which the audit reads the base model. Use true, gaussian, eva or "
        "orthogonal.",
    ),
    "lora.bias": (
        lambda value: value == "none",
        "trains the base model's biases, so that the audit could not read the base model. Use none; lora.lora_bias "
        "adds biases to the adapter.",
    ),
    "chat_template": (lambda value: Path(value).is_file(), "no such file."),
}
"""Key -> whether a value that is not null will do, and what to say if not."""


def check_key(key: str, value: Any) -> None:
    """Refuse a value of the right type that is wrong on its own.

    Args:
        key: A dotted key.
        value: Its value, converted.

    Raises:
        Misfit: The message says what is wrong.
    """
    if key in OWNED:
        raise Misfit(f"is not to be set in a recipe. {OWNED[key]}")
    if value is not None and key in RULES:
        good, message = RULES[key]
        if not good(value):
            raise Misfit(message)


def check_together(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is wrong with values that would each do on their own.

    Args:
        values: Every key that has a value, all well-typed.

    Returns:
        The key to blame and a sentence, for each mistake.
    """
    wrong: list[tuple[str, str]] = []
    if values.get("trainer.save_total_limit") is not None and values["audit.mode"] != "off":
        wrong.append(
            (
                "trainer.save_total_limit",
                "would delete checkpoints before they are audited. Leave it out, or set audit.mode=off.",
            )
        )
    if values.get("trainer.save_only_model") and values["resume"] == "auto":
        wrong.append(
            (
                "trainer.save_only_model",
                "leaves nothing to resume from. Leave it out, or set resume=never.",
            )
        )
    if values.get("trainer.bf16") and values.get("trainer.fp16"):
        wrong.append(("trainer.fp16", "cannot be on together with trainer.bf16."))
    if values["audit.probe.norm_documents"] > values["audit.probe.documents"]:
        wrong.append(
            (
                "audit.probe.norm_documents",
                f"is more than audit.probe.documents ({values['audit.probe.documents']}), of which it is a part.",
            )
        )
    if values["audit.patchscope.top_k"] > values["audit.patchscope.intersection_k"]:
        wrong.append(("audit.patchscope.top_k", "is more than audit.patchscope.intersection_k, which bounds it."))
    return wrong
