"""`--dry-run`: everything that can be resolved without a tokenizer or weights."""

import math

from rich.console import Console

from data_mix.corpus import describe
from data_mix.preview import estimate
from organisms.load import load, spec
from recipes.dry_run import Estimate, table
from recipes.recipe import Resolved
from train.processes import launched
from train.schedule import checkpoint_steps


def print_plan(resolved: Resolved) -> None:
    """Prints what the run would do.

    Raises:
        OrganismError: Unknown or broken organism.
        MixError: Unknown corpus, or a mix that makes no sense.
        TrainError: A checkpoint beyond the last step.
    """
    recipe = resolved.recipe
    per_device = resolved.trainer.get("per_device_train_batch_size", 8)
    batch_rows = (
        per_device * resolved.trainer.get("gradient_accumulation_steps", 1) * (recipe.world_size or launched())
    )
    preview = estimate(load(recipe.organism).examples, recipe.mix, batch_rows=batch_rows)
    steps = checkpoint_steps(recipe.checkpoints, preview.steps, lambda fraction: math.ceil(fraction * preview.steps))
    planned = Estimate(
        organism_tokens=preview.organism_loss_tokens,
        pretraining_tokens=preview.pretraining_loss_tokens,
        rows=preview.rows,
        batch_rows=batch_rows,
        steps=preview.steps,
        checkpoint_steps=steps,
    )
    console = Console()
    console.print(table(resolved, spec(recipe.organism), describe(recipe.mix.corpus), planned))
    if preview.enough_text is False:
        console.print("[bold red]The corpus looks too small for this ratio; the run would refuse it.")
