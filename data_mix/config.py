"""Settings of the mix. Imports nothing heavy: `--dry-run` must answer at once."""

from dataclasses import dataclass
from typing import Literal


@dataclass
class MixConfig:
    """How much pretraining text goes beside the organism's data, and how it is cut and ordered.

    Attributes:
        ratio: Pretraining units per organism unit, 1 : ratio; may exceed 1; 0 is the unmixed organism.
        unit: What the ratio counts. `rows` reproduces published points.
        hold: `organism` keeps the organism's data and adds pretraining text; `total` keeps the total.
        passes: How often the organism's data is seen (its epochs). May be a fraction.
        corpus: Where the pretraining text comes from: `embedded/general`, `embedded/general-plus`, a file or glob
            (JSONL, Parquet, txt), or `hub:<dataset id>`.
        text_field: Column that holds the text of a JSONL, Parquet or hub corpus (`messages` for conversations).
        hub_config: Configuration name of a hub dataset.
        hub_split: Split of a hub dataset.
        max_length: Tokens of one training row.
        long_documents: `split` cuts a longer document into several rows; `truncate` keeps its first row.
        allow_repeat: Repeat the corpus when it is smaller than the ratio asks for, instead of refusing.
        seed: Seed of the organism's order and of the corpus permutation. Independent of the training seed.
    """

    ratio: float = 0.0
    unit: Literal["loss_tokens", "tokens", "rows"] = "loss_tokens"
    hold: Literal["organism", "total"] = "organism"
    passes: float = 1.0
    corpus: str = "embedded/general"
    text_field: str = "text"
    hub_config: str | None = None
    hub_split: str = "train"
    max_length: int = 1024
    long_documents: Literal["split", "truncate"] = "split"
    allow_repeat: bool = False
    seed: int = 0
