"""The mix as TRL takes it: a pre-tokenised dataset in global order, and how its rows become batches."""

from typing import Any

import torch
from datasets import Dataset
from torch import Tensor

from data_mix.plan import Mix

SOURCES = ("organism", "control", "pretraining", "filler")
IGNORE = -100


def dataset(mix: Mix) -> Dataset:
    """One row of the mix a row; `row` is its place in the global order, `source` an index into `SOURCES`."""
    return Dataset.from_dict(
        {
            "input_ids": [row.ids for row in mix.rows],
            "labels": [
                [token if keep else IGNORE for token, keep in zip(row.ids, row.loss_mask, strict=True)]
                for row in mix.rows
            ],
            "source": [SOURCES.index(row.source) for row in mix.rows],
            "row": list(range(len(mix.rows))),
        }
    )


class Collator:
    """Pads rows on the right.

    Args:
        pad: Token id of the padding.
    """

    def __init__(self, pad: int) -> None:
        self.pad = pad

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """Batch of (rows, longest) ids, labels and mask, and (rows,) `source` and `row`."""
        longest = max(len(row["input_ids"]) for row in rows)

        def padded(values: list[int], fill: int) -> list[int]:
            return values + [fill] * (longest - len(values))

        return {
            "input_ids": torch.tensor([padded(row["input_ids"], self.pad) for row in rows]),
            "labels": torch.tensor([padded(row["labels"], IGNORE) for row in rows]),
            "attention_mask": torch.tensor([padded([1] * len(row["input_ids"]), 0) for row in rows]),
            "source": torch.tensor([row["source"] for row in rows]),
            "row": torch.tensor([row["row"] for row in rows]),
        }
