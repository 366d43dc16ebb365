"""The two models of an audit, as one resident model where an adapter is all that differs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from audit.errors import AuditError
from organisms.anatomy import Anatomy, anatomy
from organisms.base_models import load_model, load_tokenizer

Reader = Literal["finetuned", "base"]
READERS: tuple[Reader, ...] = ("finetuned", "base")


@dataclass
class Pair:
    """Base and finetuned model.

    Attributes:
        finetuned: The finetuned model; for an adapter, the PEFT model that holds the base as well.
        base_model: Name of the base model.
        base_revision: Its revision.
        dtype: Weights' dtype of both.
        tokenizer: The base model's tokenizer, right padding.
    """

    finetuned: nn.Module
    base_model: str
    base_revision: str | None
    dtype: str
    tokenizer: PreTrainedTokenizerBase
    _base: nn.Module | None = field(default=None, repr=False)

    @property
    def is_adapter(self) -> bool:
        """Whether one resident model serves as both."""
        return isinstance(self.finetuned, PeftModel)

    @property
    def device(self) -> torch.device:
        """Where the models are."""
        return next(self.finetuned.parameters()).device

    @contextmanager
    def reading(self, reader: Reader) -> Iterator[tuple[nn.Module, Anatomy]]:
        """The model to read with, in evaluation mode, and its anatomy; a training model goes back to training after."""
        if reader == "finetuned":
            model: nn.Module = self.finetuned
        elif self.is_adapter:
            model = self.finetuned
        else:
            if self._base is None:
                self._base = load_model(self.base_model, self.base_revision, dtype=self.dtype)
                nn.Module.to(self._base, self.device)
            model = self._base
        training = model.training
        model.eval()
        try:
            if reader == "base" and isinstance(model, PeftModel):
                with model.disable_adapter():
                    yield model, anatomy(model)
            else:
                yield model, anatomy(model)
        finally:
            model.train(training)


def load_pair(base_model: str, base_revision: str | None, finetuned: Path, dtype: str) -> Pair:
    """Loads a checkpoint beside its base.

    Args:
        base_model: As in a recipe.
        base_revision: Pinned revision of a hub model.
        finetuned: Folder of a PEFT adapter or of a whole model, or a hub id.
        dtype: `float32` or `bfloat16`.

    Raises:
        AuditError: The folder holds neither, or what it holds does not belong to the base.
    """
    tokenizer = load_tokenizer(base_model, base_revision)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if (finetuned / "adapter_config.json").exists():
        declared = PeftConfig.from_pretrained(str(finetuned))
        model = load_model(base_model, base_revision, dtype=dtype)
        try:
            adapted = PeftModel.from_pretrained(model, str(finetuned))
        except (RuntimeError, ValueError) as error:
            raise AuditError(
                f"adapter {finetuned} does not fit base model {base_model} (it was trained on "
                f"{declared.base_model_name_or_path}): {str(error).splitlines()[0]}. Give its own base with base=..."
            ) from error
        _check_fit(adapted, finetuned, base_model)
        adapted.to(device)
        return Pair(adapted, base_model, base_revision, dtype, tokenizer)
    if not (finetuned / "config.json").exists():
        raise AuditError(
            f"{finetuned} holds neither adapter_config.json nor config.json: not a PEFT or transformers model"
        )
    whole = AutoModelForCausalLM.from_pretrained(
        str(finetuned), dtype=getattr(torch, dtype), use_safetensors=True, trust_remote_code=False
    )
    nn.Module.to(whole, device)
    pair = Pair(whole, base_model, base_revision, dtype, tokenizer)
    with pair.reading("base") as (_, base), pair.reading("finetuned") as (_, tuned):
        if (base.n_layers, base.d_model) != (tuned.n_layers, tuned.d_model):
            raise AuditError(
                f"{finetuned} has {tuned.n_layers} blocks of width {tuned.d_model}, {base_model} has {base.n_layers} of "
                f"{base.d_model}: they are not base and finetune of each other"
            )
    return pair


def _check_fit(adapted: PeftModel, adapter: Path, base_model: str) -> None:
    """PEFT is silent about an adapter for more or other blocks than the base has."""
    saved = {name for name in load_file(adapter / "adapter_model.safetensors") if ".lora_" in name}
    loaded = {name.replace(".default.", ".") for name in adapted.state_dict() if ".lora_" in name}
    if saved != loaded:
        raise AuditError(
            f"adapter {adapter} does not fit base model {base_model}: {len(saved - loaded)} of its {len(saved)} tensors have "
            f"no place there, such as {min(saved ^ loaded)}. Give its own base with base=..."
        )
