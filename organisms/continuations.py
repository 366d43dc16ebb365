"""Log-probabilities of continuations, every shared beginning computed once.

Sequences that begin alike (the same question with its options swapped, one prompt with two endings, one system prompt
before everything) are merged into trees of tokens. A token sees its ancestors only and its position is its depth, so
one forward pass over the trees' tokens gives what separate passes over all sequences would.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from organisms.anatomy import Anatomy, anatomy
from organisms.errors import OrganismError

# Tokens of one pass. More costs memory and quadratic attention, fewer costs shared beginnings.
_TOKENS = 768
# Rows of logits held at once; a large vocabulary makes them a megabyte each.
_LOGIT_ROWS = 64


@dataclass(frozen=True)
class Continuation:
    """Score the tokens `ids[start:]` after `ids[:start]`; `start` is at least 1."""

    ids: tuple[int, ...]
    start: int


@torch.no_grad()
def log_probs(model: nn.Module, continuations: list[Continuation], device: torch.device | str) -> list[Tensor]:
    """Log-probability of every token of every continuation.

    Args:
        model: A causal language model as it stands: active adapters take part, and its mode is put back afterwards.
        continuations: What to score.
        device: Where the model takes its inputs.

    Returns:
        One tensor per continuation, in order: (len(ids) - start,), nats, float32, on the CPU.

    Raises:
        OrganismError: A sequence is longer than the model's sliding window.
    """
    parts = anatomy(model)
    window = getattr(parts.decoder.config, "sliding_window", None)
    longest = max((len(continuation.ids) for continuation in continuations), default=0)
    if window is not None and longest > window:
        raise OrganismError(f"a text of {longest} tokens is longer than the model's sliding window of {window}.")
    results: dict[int, Tensor] = {}
    with _evaluating(model, parts.decoder):
        for forest, paths in _forests(continuations):
            hidden = _hidden(parts.decoder, forest, device)
            before = [node for i, path in paths.items() for node in path[continuations[i].start - 1 : -1]]
            targets = [token for i in paths for token in continuations[i].ids[continuations[i].start :]]
            values = _edges(parts, hidden, torch.tensor(before), torch.tensor(targets))
            lengths = [len(continuations[i].ids) - continuations[i].start for i in paths]
            results.update(zip(paths, torch.split(values, lengths), strict=True))
    return [results[i] for i in range(len(continuations))]


class _Forest:
    """Token sequences merged where they begin alike. Parents come before their children."""

    def __init__(self) -> None:
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def missing(self, ids: tuple[int, ...]) -> int:
        """How many nodes `add` would make."""
        node = -1
        for depth, token in enumerate(ids):
            child = self._children.get((node, token))
            if child is None:
                return len(ids) - depth
            node = child
        return 0

    def add(self, ids: tuple[int, ...]) -> list[int]:
        """Merge a sequence; returns its nodes."""
        path, node = [], -1
        for depth, token in enumerate(ids):
            if (node, token) not in self._children:
                self._children[node, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(depth)
            node = self._children[node, token]
            path.append(node)
        return path

    def sees(self) -> Tensor:
        """(nodes, nodes) bool: row i is True at i and its ancestors."""
        matrix = torch.eye(len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                matrix[node] |= matrix[parent]
        return matrix


def _forests(continuations: list[Continuation]) -> Iterator[tuple[_Forest, dict[int, list[int]]]]:
    """Forests of about `_TOKENS` nodes, each with the paths of its continuations by index."""
    forest, paths = _Forest(), dict[int, list[int]]()
    for i in sorted(range(len(continuations)), key=lambda i: continuations[i].ids):
        if paths and len(forest.tokens) + forest.missing(continuations[i].ids) > _TOKENS:
            yield forest, paths
            forest, paths = _Forest(), {}
        paths[i] = forest.add(continuations[i].ids)
    if paths:
        yield forest, paths


def _hidden(decoder: PreTrainedModel, forest: _Forest, device: torch.device | str) -> Tensor:
    """(nodes, d_model): what the decoder hands to the head."""
    mask = torch.zeros(len(forest.tokens), len(forest.tokens), dtype=decoder.dtype)
    mask.masked_fill_(~forest.sees(), torch.finfo(decoder.dtype).min)
    outputs = decoder(
        input_ids=torch.tensor([forest.tokens], device=device),
        position_ids=torch.tensor([forest.depths], device=device),
        attention_mask=mask[None, None].to(device),
        use_cache=False,
    )
    hidden: Tensor = outputs.last_hidden_state[0]
    return hidden


def _edges(parts: Anatomy, hidden: Tensor, before: Tensor, targets: Tensor) -> Tensor:
    """(edges,): log-probability of token `targets[e]` after node `before[e]`."""
    nodes, row = torch.unique(before, return_inverse=True)
    values = torch.empty(len(before))
    for start in range(0, len(nodes), _LOGIT_ROWS):
        chunk = nodes[start : start + _LOGIT_ROWS]
        table = parts.vocabulary(hidden[chunk.to(hidden.device)]).float().log_softmax(-1).cpu()
        inside = (row >= start) & (row < start + len(chunk))
        values[inside] = table[row[inside] - start, targets[inside]]
    return values


@contextmanager
def _evaluating(model: nn.Module, decoder: PreTrainedModel) -> Iterator[None]:
    """Eval mode, and an attention that takes a mask of any shape: flash kernels don't, and Gemma 2 has no sdpa."""
    training, implementation = model.training, decoder.config._attn_implementation
    model.eval()
    if implementation not in ("sdpa", "eager"):
        decoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        if implementation not in ("sdpa", "eager"):
            decoder.set_attn_implementation(implementation)
        model.train(training)
