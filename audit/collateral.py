"""What else changed: perplexity on held-out text, the organism's words where they have no place, repetition."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from audit.pair import Pair, Reader
from audit.readability import Scores, interval

ROWS_AT_ONCE = 8


@dataclass(frozen=True)
class HeldOut:
    """One model on held-out text, per document.

    Attributes:
        nll: Mean negative log-likelihood of the tokens, nats, (documents,).
        mass: Mean probability given to the organism's words as the next token, (documents,).
    """

    nll: Scores
    mass: Scores


@torch.no_grad()
def held_out(pair: Pair, reader: Reader, ids: Tensor, words: Tensor) -> HeldOut:
    """Scores a model on held-out documents.

    Args:
        pair: The models.
        reader: Which one.
        ids: (documents, length).
        words: Whether a token id is one of the organism's words, (rows of the head,).
    """
    device = pair.device
    nll, mass = [], []
    with pair.reading(reader) as (_, anatomy):
        held = words.to(device, torch.float32)
        for chunk in tqdm(torch.split(ids, ROWS_AT_ONCE), desc=f"held-out text: {reader}", leave=False):
            chunk = chunk.to(device)
            hidden = anatomy.decoder(input_ids=chunk, use_cache=False).last_hidden_state[:, :-1]
            logs = torch.log_softmax(anatomy.vocabulary(hidden).float(), dim=-1)
            nll.append(-logs.gather(-1, chunk[:, 1:, None])[..., 0].mean(1))
            mass.append((logs.exp() @ held).mean(1))
    return HeldOut(torch.cat(nll).double().cpu().numpy(), torch.cat(mass).double().cpu().numpy())


def compare(metric: str, unit: str, finetuned: Scores, base: Scores, seed: int) -> dict[str, object]:
    """Both models' mean and the change, each with its interval over documents (the change is paired)."""
    names = ("value", "low", "high")
    return {
        "metric": metric,
        "unit": unit,
        "finetuned": dict(zip(names, interval(finetuned, seed), strict=True)),
        "base": dict(zip(names, interval(base, seed), strict=True)),
        "change": dict(zip(names, interval(finetuned - base, seed), strict=True)),
    }


def compare_perplexity(finetuned: Scores, base: Scores, seed: int) -> dict[str, object]:
    """As `compare`, exponentiated: perplexities, and their ratio as the change."""
    row = compare("perplexity_heldout", "perplexity; change: ratio", finetuned, base, seed)
    for name in ("finetuned", "base", "change"):
        values = row[name]
        assert isinstance(values, dict)
        row[name] = {key: float(np.exp(value)) for key, value in values.items()}
    return row


def repetition(texts: Sequence[str]) -> Scores:
    """Share of each text's word trigrams that occurred before in it, (texts,)."""
    shares = []
    for text in texts:
        words = text.lower().split()
        grams = list(zip(words, words[1:], words[2:], strict=False))
        shares.append(1 - len(set(grams)) / len(grams) if grams else 0.0)
    return np.array(shares, dtype=np.float64)
