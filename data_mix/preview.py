"""What a mix will roughly be, without a tokenizer: for `--dry-run`. Every number is an estimate and says so."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from data_mix.config import MixConfig
from data_mix.corpus import describe
from data_mix.errors import MixError
from data_mix.tokenise import DocLike

CHARACTERS_PER_TOKEN = 4.2
# A passage of an embedded corpus; where nothing is known of a corpus, its documents are taken to be like these.
_USUAL_DOCUMENT = 1100


@dataclass(frozen=True)
class Preview:
    """Estimated size of a mix.

    Attributes:
        estimated: Always True; printed with the numbers.
        organism_loss_tokens: Organism loss tokens of the whole run.
        pretraining_loss_tokens: Pretraining loss tokens of the whole run.
        rows: Training rows.
        steps: Optimizer steps.
        enough_text: Whether the corpus is large enough; None if its size is not known.
    """

    estimated: bool
    organism_loss_tokens: int
    pretraining_loss_tokens: int
    rows: int
    steps: int
    enough_text: bool | None


def estimate(organism_docs: Iterable[DocLike], config: MixConfig, *, batch_rows: int) -> Preview:
    """Estimate a mix from character counts, at 4.2 characters a token.

    Args:
        organism_docs: The organism's examples.
        config: The mix.
        batch_rows: Rows of one optimizer step.

    Raises:
        MixError: There is no such corpus, or no example.
    """
    sizes = [_size(document, config) for document in organism_docs]
    if not sizes:
        raise MixError("the organism has no examples, so there is nothing to mix.")
    told = describe(config.corpus)
    characters, documents = told["characters"], told["documents"]
    document_tokens = (characters / documents if characters else _USUAL_DOCUMENT) / CHARACTERS_PER_TOKEN
    text_rows_each = _pieces(document_tokens, config)
    text_row = min(document_tokens / text_rows_each, config.max_length)

    rows, tokens, loss_tokens = (sum(column) * config.passes for column in zip(*sizes, strict=True))
    whole = {"rows": rows, "tokens": tokens, "loss_tokens": loss_tokens}[config.unit]
    kept = 1 / (1 + config.ratio) if config.hold == "total" else 1.0
    text_units = config.ratio * whole * kept
    text_rows = text_units if config.unit == "rows" else text_units / text_row
    all_rows = math.ceil(rows * kept) + math.ceil(text_rows)
    there = None if not characters else characters / CHARACTERS_PER_TOKEN * told["splits"]["mix"] / documents
    return Preview(
        estimated=True,
        organism_loss_tokens=round(loss_tokens * kept),
        pretraining_loss_tokens=round(text_rows * text_row),
        rows=all_rows,
        steps=math.ceil(all_rows / batch_rows),
        enough_text=None if there is None else config.allow_repeat or text_rows * text_row <= there,
    )


def _size(document: DocLike, config: MixConfig) -> tuple[float, float, float]:
    """Rows, tokens and loss tokens of one example."""
    if document.messages is not None:
        said = sum(len(message["content"]) for message in document.messages)
        replies = sum(len(message["content"]) for message in document.messages if message["role"] == "assistant")
        tokens = min(said / CHARACTERS_PER_TOKEN, config.max_length)
        return 1, tokens, tokens * replies / max(1, said)
    tokens = max(1.0, len(document.text or "") / CHARACTERS_PER_TOKEN)
    rows = _pieces(tokens, config)
    tokens = min(tokens, rows * config.max_length)
    return rows, tokens, tokens


def _pieces(tokens: float, config: MixConfig) -> int:
    return math.ceil(tokens / config.max_length) if config.long_documents == "split" else 1
