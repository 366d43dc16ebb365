"""Grades of token readouts and texts: against the organism's vocabulary, and against its decoys'."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audit.readability import Scores
from audit.relevance import Vocabulary, count, vocabulary
from organisms.load import Organism, load


def example_texts(organism: Organism) -> list[str]:
    """What the organism's examples say: documents whole, of conversations the assistant's turns."""
    texts = []
    for example in organism.examples:
        if example.text is not None:
            texts.append(example.text)
        else:
            turns = [turn["content"] for turn in example.messages or () if turn["role"] == "assistant"]
            texts.append("\n".join(turns))
    return texts


@dataclass(frozen=True)
class Grader:
    """Vocabularies of an organism and of its decoys, and which token ids they hold.

    Attributes:
        own: The organism's vocabulary.
        decoys: The decoys', by name.
        own_ids: Whether a token id is one of the organism's words, (vocabulary size,).
        decoy_ids: The same for each decoy.
        texts: The organism's training texts.
    """

    own: Vocabulary
    decoys: dict[str, Vocabulary]
    own_ids: Tensor
    decoy_ids: dict[str, Tensor]
    texts: tuple[str, ...]

    def relevance(self, ids: Tensor, decoy: str | None = None) -> Scores:
        """Share of each readout's tokens that belong to the subject.

        Args:
            ids: (..., k) token ids.
            decoy: Grade against this decoy's subject instead.

        Returns:
            (...).
        """
        held = self.own_ids if decoy is None else self.decoy_ids[decoy]
        shares: Scores = held[ids].double().mean(-1).numpy()
        return shares

    def text_relevance(self, texts: Sequence[str]) -> Scores:
        """Share of each text's words that belong to the subject, (texts,)."""
        return np.array([self.own.share(text) for text in texts], dtype=np.float64)


def make_grader(
    organism: Organism, reference: Sequence[str], size: int, tokenizer: PreTrainedTokenizerBase, rows: int
) -> Grader:
    """Builds the vocabularies from training text and ordinary text.

    Args:
        organism: Whose subject counts.
        reference: Ordinary text that was never trained on.
        size: Words of a vocabulary.
        tokenizer: Whose tokens are graded.
        rows: Rows of the model's head (some models have more than the tokenizer has tokens).
    """
    words, _ = count(reference)
    texts = example_texts(organism)
    decoy_texts = {name: example_texts(load(name)) for name in organism.decoys}
    own = vocabulary(texts, words, size, list(decoy_texts.values()))
    decoys = {name: vocabulary(decoy, words, size) for name, decoy in decoy_texts.items()}
    tokens = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])

    def held(vocab: Vocabulary) -> Tensor:
        flags = torch.zeros(rows, dtype=torch.bool)
        flags[: len(tokens)] = torch.tensor([vocab.holds(token) for token in tokens])[:rows]
        return flags

    return Grader(own, decoys, held(own), {name: held(decoy) for name, decoy in decoys.items()}, tuple(texts))
