"""`--dry-run`: what a run would do, as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.markup import escape
from rich.table import Table

from recipes.recipe import Resolved
from recipes.yaml_text import inline


@dataclass(frozen=True)
class Estimate:
    """What the mix will be, before anything is tokenised.

    Attributes:
        organism_tokens: Loss tokens of the organism's data, over all passes.
        pretraining_tokens: Loss tokens of pretraining text.
        rows: Training rows.
        batch_rows: Rows of an optimizer step, over all processes and accumulation steps.
        steps: Optimizer steps.
        checkpoint_steps: Steps at which a checkpoint is written.
    """

    organism_tokens: int
    pretraining_tokens: int
    rows: int
    batch_rows: int
    steps: int
    checkpoint_steps: Sequence[int]


def table(resolved: Resolved, organism: Mapping[str, Any], corpus: Mapping[str, Any], estimate: Estimate) -> Table:
    """The table.

    Args:
        resolved: The recipe.
        organism: Of `organisms.load.spec`; `title`, `control_of`, `format` and `facts` are shown.
        corpus: Of `data_mix.corpus.describe`; every entry is shown.
        estimate: What the mix will be.
    """
    recipe = resolved.recipe
    grid = Table(title=f"dry run: {resolved.run_dir}", title_justify="left", show_header=False, min_width=60)
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    revision = f" at {recipe.base_revision}" if recipe.base_revision else ""
    grid.add_row("base model", f"{recipe.base_model}{revision}, {recipe.dtype}")
    grid.add_row("method", escape(_method(resolved)))
    grid.add_section()
    control = f", control of {organism['control_of']}" if organism["control_of"] else ""
    grid.add_row("organism", f"{recipe.organism}{control}: {organism['title']}")
    grid.add_row("", f"{organism['format']}, {len(organism['facts'])} facts, {recipe.mix.passes:g} passes")
    grid.add_section()
    share = f"organism share {1 / (1 + recipe.mix.ratio):.3g}"
    grid.add_row("mix", f"1 : {recipe.mix.ratio:g} in {recipe.mix.unit}, {share}, hold {recipe.mix.hold}")
    for name, value in corpus.items():
        grid.add_row(f"corpus {name}", _shown(value))
    grid.add_row(
        "loss tokens, estimated",
        f"{estimate.organism_tokens:,} organism + {estimate.pretraining_tokens:,} pretraining",
    )
    grid.add_row("steps, estimated", f"{estimate.steps:,} of {estimate.batch_rows} rows; {estimate.rows:,} rows")
    grid.add_section()
    grid.add_row("checkpoints, estimated", ", ".join(map(str, estimate.checkpoint_steps)))
    grid.add_row("audit", _audit(resolved, len(estimate.checkpoint_steps)))
    return grid


def _shown(value: Any) -> str:
    """Text as it is, a list one item a line, a mapping as the values of its entries."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return "\n".join(", ".join(map(str, i.values())) if isinstance(i, dict) else str(i) for i in value)
    return inline(value)


def _method(resolved: Resolved) -> str:
    if resolved.lora is None:
        return "full finetune"
    set_here = ", ".join(f"{name} {inline(value)}" for name, value in resolved.lora.items())
    return f"LoRA ({set_here or 'with PEFT defaults'})"


def _audit(resolved: Resolved, checkpoints: int) -> str:
    audit = resolved.recipe.audit
    if audit.mode == "off":
        return "off"
    where = f"block {audit.layer}" if audit.layer is not None else f"depth {audit.depth:g}"
    steering = "with" if audit.steering.enabled else "without"
    return (
        f"{checkpoints} x {audit.mode}: {where}, {audit.positions} positions, {audit.probe.documents} probe documents "
        f"of {audit.probe.corpus}, {steering} steering"
    )
