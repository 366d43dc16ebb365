"""Trains one organism: `accelerate launch train/sft.py recipe=... dotted.key=value ...`.

The order is TRL's: recipe, data, model, trainer, train. What happens around a checkpoint is in `callbacks.py`. Heavy imports
wait until the recipe is known to be right.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Launched as a script, the first entry of the module path is this folder; the repository's root must come first.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from recipes.recipe import RecipeErrors, Resolved, resolve
from recipes.show import print_config
from train.errors import TrainError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from data_mix.document import Document, Split
    from data_mix.plan import Mix
    from organisms.load import Organism


def train(resolved: Resolved, held: ExitStack) -> Path:
    """Runs a recipe to its end, going on from its last sealed checkpoint.

    Args:
        resolved: The recipe.
        held: Keeps the lock on the run's folder.

    Returns:
        The run's folder.

    Raises:
        TrainError: The run cannot be done as asked.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list
    from peft import LoraConfig
    from transformers import PrinterCallback, ProgressCallback
    from trl.trainer.sft_config import SFTConfig

    from audit.measure import check as check_audit
    from organisms.anatomy import anatomy
    from organisms.base_models import load_model, load_tokenizer
    from organisms.load import load as load_organism
    from storage import checkpoints
    from storage.atomic import write_json
    from storage.errors import StorageError
    from storage.lock import folder_lock
    from train import processes
    from train.batches import Collator, dataset
    from train.callbacks import SaveAtSteps, SealAndAudit, StepLog
    from train.inline_audit import InlineAudit
    from train.run_folder import check_same_mix, claim, effective_lora_scale, write_manifest
    from train.schedule import checkpoint_steps
    from train.trainer import OrganismTrainer

    recipe, run = resolved.recipe, resolved.run_dir

    # Processes. Without a GPU several processes only find each other if the trainer is told to use the CPU.
    on_cpu = not torch.cuda.is_available()
    world = processes.launched()
    settings: dict[str, Any] = {
        "bf16": not on_cpu and recipe.dtype == "bfloat16",
        "report_to": "none",
        "logging_nan_inf_filter": False,  # transformers would log a loss of 0 instead
        **resolved.trainer,
    }
    if on_cpu and world > 1:
        settings.setdefault("use_cpu", True)
    processes.check(processes.asked(recipe.world_size), world)
    state = PartialState(cpu=bool(settings.get("use_cpu", False)))

    # Data.
    organism = load_organism(recipe.organism)
    tokenizer = load_tokenizer(recipe.base_model, recipe.base_revision)
    if recipe.chat_template is not None:
        tokenizer.chat_template = Path(recipe.chat_template).read_text(encoding="utf-8")
    per_device = int(settings.setdefault("per_device_train_batch_size", 8))
    accumulation = int(settings.setdefault("gradient_accumulation_steps", 1))
    mix = build_mix(resolved, organism, tokenizer, per_device * accumulation * world)
    steps = checkpoint_steps(recipe.checkpoints, mix.steps, mix.ledger.first_step_with)
    model = load_model(recipe.base_model, recipe.base_revision, dtype=recipe.dtype)
    if recipe.audit.mode != "off":
        check_audit(recipe.audit, tokenizer, anatomy(model).n_layers)

    # Trainer.
    lora = None if resolved.lora is None else LoraConfig(task_type="CAUSAL_LM", **resolved.lora)
    trainer = OrganismTrainer(
        batch_rows=mix.batch_rows,
        model=model,
        args=SFTConfig(
            **settings,
            output_dir=str(run),
            max_steps=mix.steps,
            seed=recipe.seed,
            train_sampling_strategy="sequential",
            remove_unused_columns=False,
            dataset_kwargs={"skip_prepare_dataset": True},
            packing=False,
            max_length=None,
            logging_strategy="steps",
            logging_steps=1,
            save_strategy="no",
        ),
        train_dataset=dataset(mix),
        data_collator=Collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        peft_config=lora,
    )
    processes.check(world, trainer.accelerator.num_processes)

    # The run's folder, once for all processes, and only now that nothing the user named turned out to be missing.
    claimed: list[Any] = [None]
    if state.is_main_process:
        try:
            held.enter_context(folder_lock(run, wait=False))
            claim(run, resolved)
            checkpoints.drop_unsealed(run)
            check_same_mix(run, mix.ledger)
        except (TrainError, StorageError, RecipeErrors, OSError) as error:
            claimed = [str(error)]
    broadcast_object_list(claimed)
    if claimed[0]:
        raise TrainError(claimed[0])

    last = max(checkpoints.sealed_steps(run), default=None)
    if last is not None:
        checkpoints.verify(checkpoints.path(run, last))

    # What happens around a step and around a checkpoint.
    trainer.remove_callback(ProgressCallback)
    trainer.remove_callback(PrinterCallback)
    main = trainer.accelerator.is_main_process
    audit = InlineAudit(trainer, resolved, run, organism, mix.ledger)
    for callback in (
        SaveAtSteps(steps),
        StepLog(run, mix.ledger, main),
        SealAndAudit(trainer.accelerator, run, audit),
    ):
        trainer.add_callback(callback)
    if main:
        write_json(run / "mix.json", mix.ledger.to_json())
        write_manifest(
            run,
            {
                "base_model": recipe.base_model,
                "base_revision": recipe.base_revision,
                "organism": organism.name,
                "organism_sha256": organism.sha256,
                "order_sha256": mix.ledger.order_sha256,
                "seed": recipe.seed,
                "mix_seed": recipe.mix.seed,
                "processes": world,
                "batch_rows": mix.batch_rows,
                "checkpoints": steps,
                "trainable_parameters": trainer.trainable_parameters(),
                "effective_lora_scale": lora and effective_lora_scale(lora.lora_alpha, lora.r, lora.use_rslora),
            },
        )
        print(
            f"{run}: {mix.steps} steps of {mix.batch_rows} rows, checkpoints at {steps}"
            + (f", going on from step {last}" if last else "")
        )

    # Audits that an earlier, killed run still owes, then training.
    audit.catch_up()
    if last != mix.steps:
        trainer.train(resume_from_checkpoint=str(checkpoints.path(run, last)) if last else None)
    trainer.accelerator.wait_for_everyone()
    if main:
        from audit.report import write_run_report

        write_json(run / "DONE.json", {"schema": 1, "steps": mix.steps, "failed_audits": audit.failures()})
        if recipe.audit.mode != "off":
            print(f"report: {write_run_report(run)}")
    return run


def build_mix(resolved: Resolved, organism: Organism, tokenizer: Any, batch_rows: int) -> Mix:
    """The rows of a run in their order.

    Args:
        resolved: The recipe.
        organism: Its ground truth.
        tokenizer: The base model's.
        batch_rows: Rows of one optimizer step over all processes.
    """
    from data_mix.corpus import stream
    from data_mix.plan import build

    mix = resolved.recipe.mix

    def text(split: Split) -> Iterator[Document]:
        return stream(
            mix.corpus,
            split,
            seed=mix.seed,
            text_field=mix.text_field,
            hub_config=mix.hub_config,
            hub_split=mix.hub_split,
        )

    control = text("control") if organism.control_of is not None else None
    return build(
        organism.examples,
        text("mix"),
        tokenizer,
        mix,
        batch_rows=batch_rows,
        control=control,
    )


def main(argv: list[str]) -> int:
    """Entry point. Returns the exit code: 2 for bad input."""
    try:
        resolved = resolve(argv)
    except RecipeErrors as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if "print-config" in resolved.flags:
        print_config(resolved)
        return 0
    from train.failures import explain

    with explain(resolved) as outcome, ExitStack() as held:
        if "dry-run" in resolved.flags:
            from train.dry_run import print_plan

            print_plan(resolved)
        else:
            train(resolved, held)
    return outcome.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
