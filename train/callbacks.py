"""What happens around a step and around a checkpoint: save, seal, audit, log, show progress."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from tqdm import tqdm
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from data_mix.ledger import Ledger
from storage import checkpoints
from storage.atomic import write_text


class SaveAtSteps(TrainerCallback):
    """Asks for a checkpoint at the planned steps."""

    def __init__(self, steps: list[int]) -> None:
        self.steps = frozenset(steps)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        """Sets the trainer's save flag."""
        control.should_save = state.global_step in self.steps
        return control


class SealAndAudit(TrainerCallback):
    """Seals a checkpoint once all processes have written it, then has it audited.

    Args:
        accelerator: The trainer's.
        run: The run's folder.
        audit: Called on all processes with the checkpoint's folder; it may not raise.
    """

    def __init__(self, accelerator: Accelerator, run: Path, audit: Callable[[Path], None]) -> None:
        self.accelerator, self.run, self.audit = accelerator, run, audit

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Runs after the trainer has written its files."""
        checkpoint = checkpoints.path(self.run, state.global_step)
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            checkpoints.seal(checkpoint)
        self.accelerator.wait_for_everyone()
        self.audit(checkpoint)
        self.accelerator.wait_for_everyone()


class StepLog(TrainerCallback):
    """Writes log.jsonl, one line an optimizer step, and shows the progress bar.

    Args:
        run: The run's folder.
        ledger: What each step holds.
        is_main: Whether this process writes.
    """

    def __init__(self, run: Path, ledger: Ledger, is_main: bool) -> None:
        self.file, self.ledger, self.is_main = run / "log.jsonl", ledger, is_main
        self.started = 0.0
        self.bar: tqdm[Any] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Cuts the log back to the step that training goes on from."""
        if self.is_main:
            lines = self.file.read_text(encoding="utf-8").splitlines() if self.file.exists() else []
            whole = [line for line in lines if line.endswith("}") and json.loads(line)["step"] <= state.global_step]
            write_text(self.file, "".join(line + "\n" for line in whole))
            self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="training", unit="step")

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the step's clock: audits between steps do not count."""
        self.started = time.perf_counter()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Writes the step's line."""
        if not self.is_main or logs is None or "loss" not in logs:
            return
        step, seconds = state.global_step, time.perf_counter() - self.started
        before = self.ledger.loss_tokens_at(step - 1)
        after = self.ledger.loss_tokens_at(step)
        line = {
            "step": step,
            "loss": logs["loss"],
            **{key: logs[key] for key in sorted(logs) if key.startswith("loss_")},
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "first_row": logs["first_row"],
            "last_row": logs["last_row"],
            "exposure": after["organism"],
            "pretraining_loss_tokens": after["pretraining"],
            "tokens_per_second": (sum(after.values()) - sum(before.values())) / seconds,
            "seconds": seconds,
        }
        # JSON has no NaN: a loss that is no number is null.
        finite = {key: value if math.isfinite(value) else None for key, value in line.items()}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(finite) + "\n")
        assert self.bar is not None
        self.bar.update(1)
        self.bar.set_postfix(loss=f"{logs['loss']:.3f}", exposure=after["organism"])

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Closes the bar."""
        if self.bar is not None:
            self.bar.close()
