"""The unrelated text that the lens is computed on, cut to what a causal model needs of it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audit.errors import AuditError


class HasText(Protocol):
    """Anything that carries a text (a corpus document, an organism's example)."""

    @property
    def text(self) -> str | None:
        """The text, none for conversations."""


@dataclass(frozen=True)
class Probe:
    """Probe documents as token ids, all of the same length, so that nothing is padded.

    Attributes:
        ids: (documents, length).
        texts: The documents' texts, whole.
    """

    ids: Tensor
    texts: tuple[str, ...]


def encode(tokenizer: PreTrainedTokenizerBase, text: str, length: int) -> list[int]:
    """First `length` tokens of a text, with the special tokens the tokenizer puts before a text (BOS).

    The text is cut to 20 characters a token first: only its beginning is needed.
    """
    ids: list[int] = tokenizer(text[: 20 * length])["input_ids"]
    return ids[:length]


def load_probe(
    documents: Iterator[HasText], tokenizer: PreTrainedTokenizerBase, count: int, length: int, corpus: str, key: str
) -> Probe:
    """First `count` documents that are at least `length` tokens long.

    Args:
        documents: Documents in the corpus's order.
        tokenizer: The base model's.
        count: How many.
        length: Tokens kept of each.
        corpus: The corpus's name, for the message.
        key: The recipe key that asked for them, for the message.

    Raises:
        AuditError: The corpus has fewer.
    """
    ids: list[list[int]] = []
    texts: list[str] = []
    for document in documents:
        if document.text is None:
            continue
        tokens = encode(tokenizer, document.text, length)
        if len(tokens) == length:
            ids.append(tokens)
            texts.append(document.text)
        if len(ids) == count:
            return Probe(torch.tensor(ids), tuple(texts))
    raise AuditError(
        f"{key}={count}: corpus {corpus} has only {len(ids)} documents of at least {length} tokens in this split; "
        f"ask for fewer, or give a larger corpus"
    )


def batches(ids: Tensor, tokens: int) -> Iterable[Tensor]:
    """Cuts (n, length) ids into batches of about `tokens` tokens."""
    return torch.split(ids, max(1, tokens // ids.shape[1]))
