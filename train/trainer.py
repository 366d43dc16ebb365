"""TRL's SFTTrainer, told apart by source: the loss on organism text and on pretraining text, and the rows that were seen."""

from typing import Any

import torch
from torch import Tensor, nn
from trl.trainer.sft_trainer import SFTTrainer

from train.batches import SOURCES
from train.errors import TrainError


class OrganismTrainer(SFTTrainer):
    """SFTTrainer on the rows of a mix.

    Training itself is TRL's. Beside it, each logged step carries the mean loss on each source and is checked to have seen
    exactly the rows that the mix put there.

    Args:
        batch_rows: Rows of one optimizer step over all processes.
        **kwargs: SFTTrainer's arguments.
    """

    def __init__(self, *, batch_rows: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.batch_rows = batch_rows
        self._seen: list[Tensor] = []
        self._losses: list[Tensor] = []

    def trainable_parameters(self) -> int:
        """How many numbers are trained."""
        assert self.model is not None
        return sum(parameter.numel() for parameter in self.model.parameters() if parameter.requires_grad)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """TRL's loss; the per-token losses that it computes on the way are kept per source."""
        source = inputs.pop("source")
        self._seen.append(inputs.pop("row"))

        def keep(_module: nn.Module, _args: Any, output: Any) -> None:
            per_row = -output.log_probs.detach().double().sum(-1)
            counts = output.label_mask.sum(-1).double()
            sums = torch.zeros(2, len(SOURCES), dtype=torch.float64, device=per_row.device)
            sums[0].index_add_(0, source, per_row)
            sums[1].index_add_(0, source, counts)
            self._losses.append(sums)

        handle = model.register_forward_hook(keep)
        try:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)  # type: ignore[no-untyped-call]
        finally:
            handle.remove()

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Adds the mean loss per source to a step's log.

        Raises:
            TrainError: The step saw other rows than the mix's order says.
        """
        if "loss" in logs:
            seen = self.accelerator.gather(torch.cat(self._seen)).sort().values.tolist()
            sums = self.accelerator.reduce(torch.stack(self._losses).sum(0), "sum")
            self._seen, self._losses = [], []
            first = (self.state.global_step - 1) * self.batch_rows
            if seen != list(range(first, first + self.batch_rows)):
                raise TrainError(
                    f"step {self.state.global_step} trained on rows {seen[0]}..{seen[-1]}, the mix has rows "
                    f"{first}..{first + self.batch_rows - 1} there. The launch must use the batch size and process count "
                    f"that the mix was made for"
                )
            for name, total, count in zip(SOURCES, sums[0].tolist(), sums[1].tolist(), strict=True):
                if count:
                    logs[f"loss_{name}"] = total / count
            logs["first_row"], logs["last_row"] = seen[0], seen[-1]
        super().log(logs, start_time)
