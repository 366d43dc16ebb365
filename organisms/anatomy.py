"""Where a decoder keeps its blocks, its last norm and its head. The only place that knows. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from organisms.errors import OrganismError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Anatomy:
    """The parts of a decoder that the lens reads.

    Attributes:
        decoder: The model without its head; returns the residual stream after the final norm.
        blocks: Transformer blocks; each returns the residual stream after it, (batch, positions, d_model).
        final_norm: Norm between the last block and the head.
        head: Linear map to the vocabulary, or a PEFT layer around it.
        embed: Token embedding.
        n_layers: Number of blocks.
        d_model: Width of the residual stream.
        family: `llama`, `qwen2`, `gemma3`, ...: the config's `model_type` without `_text`.
        softcap: Gemma 2 squashes its logits to this magnitude; None elsewhere.
    """

    decoder: PreTrainedModel
    blocks: nn.ModuleList
    final_norm: nn.Module
    head: nn.Linear
    embed: nn.Module
    n_layers: int
    d_model: int
    family: str
    softcap: float | None

    def logits(self, residual: Tensor) -> Tensor:
        """What the model would predict from a residual stream if the blocks above it did nothing.

        Args:
            residual: (..., d_model), as a block returns it.

        Returns:
            (..., vocabulary).
        """
        return self.vocabulary(self.final_norm(residual))

    def vocabulary(self, hidden: Tensor) -> Tensor:
        """The model's logits.

        Args:
            hidden: (..., d_model), after the final norm.

        Returns:
            (..., vocabulary).
        """
        logits: Tensor = self.head(hidden)
        return logits if self.softcap is None else self.softcap * (logits / self.softcap).tanh()


def anatomy(model: nn.Module) -> Anatomy:
    """Find the parts of Gemma 1/2/3, Llama, Qwen 2/2.5/3 or any decoder built like them.

    Args:
        model: A causal language model, or one wrapped by PEFT.

    Raises:
        OrganismError: The model isn't built like these.
    """
    from peft import PeftModel
    from torch import nn
    from transformers import PreTrainedModel

    causal = model.get_base_model() if isinstance(model, PeftModel) else model
    if not isinstance(causal, PreTrainedModel):
        raise OrganismError(f"{type(causal).__name__} is no model of transformers.")
    decoder = causal.get_decoder()  # type: ignore[no-untyped-call]
    blocks, norm = getattr(decoder, "layers", None), getattr(decoder, "norm", None)
    head = causal.get_output_embeddings()  # type: ignore[no-untyped-call]
    if not (isinstance(blocks, nn.ModuleList) and isinstance(norm, nn.Module) and isinstance(head, nn.Module)):
        raise OrganismError(
            f"{type(causal).__name__} cannot be audited: a decoder with a list of blocks `layers`, a final `norm` and "
            "an output head is needed (Gemma, Llama, Qwen and models built like them)."
        )
    config = causal.config.get_text_config(decoder=True)
    for key in ("logit_scale", "logits_scaling"):
        if getattr(config, key, None) not in (None, 1.0):
            raise OrganismError(f"{type(causal).__name__} cannot be audited: it scales its logits ({key}).")
    return Anatomy(
        decoder=decoder,
        blocks=blocks,
        final_norm=norm,
        head=cast("nn.Linear", head),
        embed=causal.get_input_embeddings(),
        n_layers=len(blocks),
        d_model=config.hidden_size,
        family=config.model_type.removesuffix("_text"),
        softcap=getattr(config, "final_logit_softcapping", None),
    )
