"""What is audited: the checkpoint's place in its run, in the words of audit.json."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_mix.ledger import Ledger
from organisms.load import Organism
from storage import checkpoints


@dataclass(frozen=True)
class Subject:
    """A base and a finetuned model, and what is known of how one became the other.

    Attributes:
        base: Base model.
        base_revision: Its revision.
        finetuned: Where the finetuned model is.
        kind: `lora` or `full`.
        organism: Its ground truth; none if unknown, then nothing is graded.
        run: The run's folder; none for a model from elsewhere.
        step: Optimizer step.
        seed: Training seed.
        ledger: The run's ledger.
    """

    base: str
    base_revision: str | None
    finetuned: Path
    kind: str
    organism: Organism | None
    run: Path | None = None
    step: int | None = None
    seed: int | None = None
    ledger: Ledger | None = None

    def describe(self) -> dict[str, Any]:
        """The `subject` of audit.json, without the weights' hash."""
        organism, ledger, step = self.organism, self.ledger, self.step
        known: dict[str, Any] = dict.fromkeys(
            ("steps", "ratio", "share", "unit", "hold", "exposure", "exposure_total", "pretraining_loss_tokens"),
        )
        if ledger is not None and step is not None:
            requested = ledger.requested
            seen = ledger.loss_tokens_at(step)
            known = {
                "steps": ledger.steps,
                "ratio": requested["ratio"],
                "share": requested["share"],
                "unit": requested["unit"],
                "hold": requested["hold"],
                "exposure": seen["organism"],
                "exposure_total": ledger.loss_tokens_at(ledger.steps)["organism"],
                "pretraining_loss_tokens": seen["pretraining"],
            }
        return {
            "base": self.base,
            "base_revision": self.base_revision,
            "finetuned": self.finetuned.name if self.run is not None else str(self.finetuned),
            "kind": self.kind,
            "organism": organism.name if organism else None,
            "title": organism.title if organism else "",
            "description": organism.description if organism else "",
            "control_of": organism.control_of if organism else None,
            "run": self.run.name if self.run is not None else None,
            "step": step,
            "seed": self.seed,
            **known,
            "train_loss": self._logged("loss"),
            "lora_scale": self._manifest("effective_lora_scale"),
        }

    def _logged(self, key: str) -> float | None:
        if self.run is None or not (self.run / "log.jsonl").exists():
            return None
        for line in (self.run / "log.jsonl").read_text(encoding="utf-8").splitlines():
            if not line.endswith("}"):  # torn by a kill
                continue
            entry = json.loads(line)
            if entry["step"] == self.step:
                return None if entry[key] is None else float(entry[key])
        return None

    def _manifest(self, key: str) -> float | None:
        if self.run is None or not (self.run / "manifest.json").exists():
            return None
        value = json.loads((self.run / "manifest.json").read_text(encoding="utf-8"))[key]
        return None if value is None else float(value)


def of_checkpoint(checkpoint: Path, base: str, revision: str | None, organism: Organism | None, seed: int) -> Subject:
    """A sealed checkpoint of a run, its ledger read from the run's folder.

    Args:
        checkpoint: Its folder.
        base: Base model.
        revision: Its revision.
        organism: Its ground truth.
        seed: Training seed.

    Raises:
        StorageError: It is not sealed, or differs from its seal.
    """
    checkpoints.verify(checkpoint)
    run = checkpoint.resolve().parent
    mix = run / "mix.json"
    ledger = Ledger.from_json(json.loads(mix.read_text(encoding="utf-8"))) if mix.exists() else None
    return Subject(
        base=base,
        base_revision=revision,
        finetuned=checkpoint,
        kind="lora" if (checkpoint / "adapter_config.json").exists() else "full",
        organism=organism,
        run=run,
        step=checkpoints.step(checkpoint),
        seed=seed,
        ledger=ledger,
    )
