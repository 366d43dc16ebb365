"""Partial forwards: stop after the audited block, start above it, or add a vector at it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from organisms.anatomy import Anatomy


class _Stop(Exception):
    """Leaves a forward pass after the audited block; never seen outside this module."""


def residual(
    anatomy: Anatomy, layer: int, ids: Tensor, mask: Tensor | None = None, positions: Tensor | None = None
) -> Tensor:
    """Residual stream after block `layer`, computing nothing above it.

    Args:
        anatomy: Of the model, its adapters set as they should be read.
        layer: Block index.
        ids: Token ids, (batch, seq).
        mask: Attention mask, (batch, seq); none for unpadded rows.
        positions: Position of each token, (batch, seq); none counts from the left.

    Returns:
        The block's output, (batch, seq, d_model), in the model's dtype.
    """
    caught: list[Tensor] = []

    def stop(_module: nn.Module, _args: Any, output: Tensor) -> None:
        caught.append(output)
        raise _Stop

    handle = anatomy.blocks[layer].register_forward_hook(stop)
    try:
        with torch.no_grad():
            anatomy.decoder(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
    except _Stop:
        pass
    finally:
        handle.remove()
    return caught[0]


@contextmanager
def starting_above(anatomy: Anatomy, layer: int, vectors: Tensor) -> Iterator[None]:
    """Within this context a forward skips blocks 0..layer and goes on from `vectors`.

    The blocks up to `layer` pass their input through, and block `layer` answers with `vectors` whatever it gets, so
    embedding scales (Gemma) play no part.

    Args:
        anatomy: Where the model keeps its blocks.
        layer: Last block that is skipped.
        vectors: What stands after block `layer`, (batch, seq, d_model).
    """

    def through(hidden: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
        return hidden

    def answer(*_args: Any, **_kwargs: Any) -> Tensor:
        return vectors

    skipped = list(anatomy.blocks)[: layer + 1]
    for block in skipped:
        block.forward = through
    skipped[-1].forward = answer
    try:
        yield
    finally:
        for block in skipped:
            del block.forward


@contextmanager
def adding(anatomy: Anatomy, layer: int, vectors: Tensor) -> Iterator[None]:
    """Within this context `vectors` are added to the output of block `layer` at every position.

    Args:
        anatomy: Where the model keeps its blocks.
        layer: Block index.
        vectors: One vector a row of the batch, (batch, d_model).
    """

    def add(_module: nn.Module, _args: Any, output: Tensor) -> Tensor:
        return output + vectors[:, None, :].to(output.dtype)

    handle = anatomy.blocks[layer].register_forward_hook(add)
    try:
        yield
    finally:
        handle.remove()
