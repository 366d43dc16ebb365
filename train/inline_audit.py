"""The audit of a checkpoint from inside its training run: inline on all processes, or handed to a process of its own."""

import subprocess
import sys
from pathlib import Path

from audit.measure import measure
from audit.pair import Pair
from audit.run import status
from audit.store import audit_identity, is_done, write_audit, write_failure
from audit.subject import of_checkpoint
from data_mix.ledger import Ledger
from organisms.base_models import load_tokenizer
from organisms.load import Organism
from recipes.recipe import Resolved
from storage import checkpoints
from train.trainer import OrganismTrainer


class InlineAudit:
    """Audits checkpoints as `audit.mode` says. What goes wrong in an audit is reported, and training goes on.

    Args:
        trainer: Holds the model.
        resolved: The run's recipe.
        run: The run's folder.
        organism: Its ground truth.
        ledger: Its ledger.
    """

    def __init__(
        self, trainer: OrganismTrainer, resolved: Resolved, run: Path, organism: Organism, ledger: Ledger
    ) -> None:
        self.trainer, self.resolved, self.run = trainer, resolved, run
        self.organism, self.ledger = organism, ledger
        self._failed: set[int] = set()
        recipe = resolved.recipe
        # The training tokenizer may carry another chat template and padding; the audit reads with the base model's own.
        self.tokenizer = load_tokenizer(recipe.base_model, recipe.base_revision)

    def __call__(self, checkpoint: Path) -> None:
        """Audits a sealed checkpoint whose weights the trainer holds."""
        recipe = self.resolved.recipe
        if recipe.audit.mode == "off":
            return
        if recipe.audit.mode == "submit":
            if self.trainer.accelerator.is_main_process:
                self._start(checkpoint)
            return
        try:
            self._audit(checkpoint)
        except Exception as error:  # an audit may fail in any way, its report as well; training is worth more
            self._failed.add(checkpoints.step(checkpoint))
            print(f"warning: the audit of {checkpoint} failed ({error})", file=sys.stderr)

    def _audit(self, checkpoint: Path) -> None:
        recipe = self.resolved.recipe
        subject = of_checkpoint(checkpoint, recipe.base_model, recipe.base_revision, self.organism, recipe.seed)
        out = checkpoint / checkpoints.AUDIT
        identity = audit_identity(subject, recipe.audit, recipe.dtype)
        if is_done(out, identity):
            return
        model = self.trainer.accelerator.unwrap_model(self.trainer.model)
        pair = Pair(model, recipe.base_model, recipe.base_revision, recipe.dtype, self.tokenizer)
        try:
            measured = measure(pair, subject, recipe.audit)
            if measured is not None:
                write_audit(out, *measured, identity)
        except Exception as error:
            if self.trainer.accelerator.is_main_process:
                write_failure(out, subject, recipe.audit, error)
            raise

    def catch_up(self) -> None:
        """Audits what a killed run left without an audit."""
        if self.resolved.recipe.audit.mode == "off" or not self.trainer.accelerator.is_main_process:
            return
        for step in checkpoints.sealed_steps(self.run):
            checkpoint = checkpoints.path(self.run, step)
            if status(checkpoint) != "complete" and self._start(checkpoint).wait():
                self._failed.add(step)

    def failures(self) -> list[int]:
        """Steps whose audit failed, in this process or in an earlier one of the same run."""
        steps = checkpoints.sealed_steps(self.run)
        earlier = {step for step in steps if status(checkpoints.path(self.run, step)) == "failed"}
        return sorted(self._failed | earlier)

    def _start(self, checkpoint: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "audit.run", f"checkpoint={checkpoint}"]
        with (checkpoint.parent / f"audit-{checkpoint.name}.log").open("wb") as log:
            return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
