"""The mean activation difference on the first tokens of unrelated text, by streaming sums.

arXiv 2510.13900, section 2: delta[position] = mean over probe documents of (h_finetuned - h_base), residual stream after one
block. Documents are dealt into a fixed number of blocks and only the blocks' sums are kept, so memory does not grow with
the number of documents, the cached base model stays paired with the finetuned one, and the spread over blocks gives
standard errors and bootstrap replicates.
"""

from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from tqdm import tqdm

from audit.errors import AuditError
from audit.forward import residual
from audit.probe import batches
from organisms.anatomy import Anatomy

BLOCKS = 16
SINK_POSITIONS = 5
"""The typical activation norm leaves out the first positions, where both embedded models have an attention sink."""

BATCH_TOKENS = 2048


@dataclass(frozen=True)
class Sums:
    """What one model's pass over the probe text leaves behind.

    Attributes:
        total: Sums of the residual stream over the documents of each block, (BLOCKS, positions, d_model), float64.
        count: Documents in each block, (BLOCKS,).
        norm: Mean L2 norm of the residual stream at positions 5 and on.
    """

    total: Tensor
    count: Tensor
    norm: float


def collect(anatomy: Anatomy, layer: int, ids: Tensor, norm_ids: Tensor, device: torch.device, label: str) -> Sums:
    """Runs the lower part of a model over the probe text; with several processes, each takes its share.

    Args:
        anatomy: Of the model, its adapters set as they should be read.
        layer: Block index.
        ids: Probe documents, (documents, positions).
        norm_ids: The documents that give the norm, (documents, norm_length).
        device: Where the model is.
        label: Shown beside the progress bar.

    Raises:
        AuditError: An activation is not a finite number.
    """
    rank, world = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)
    total = torch.zeros(BLOCKS, ids.shape[1], anatomy.d_model, dtype=torch.float64, device=device)
    count = torch.zeros(BLOCKS, dtype=torch.float64, device=device)
    block_of = torch.arange(len(ids)) % BLOCKS
    mine = torch.arange(rank, len(ids), world)
    chunks = torch.split(mine, max(1, BATCH_TOKENS // ids.shape[1]))
    for rows in tqdm(chunks, desc=f"difference: {label}", leave=False, disable=rank > 0):
        hidden = residual(anatomy, layer, ids[rows].to(device)).to(torch.float64)
        total.index_add_(0, block_of[rows].to(device), hidden)
        count += torch.bincount(block_of[rows], minlength=BLOCKS).to(count)
    norms = torch.zeros(2, dtype=torch.float64, device=device)
    for batch in batches(norm_ids[rank::world], BATCH_TOKENS):
        if len(batch):
            lengths = residual(anatomy, layer, batch.to(device)).float().norm(dim=-1)[:, SINK_POSITIONS:]
            norms += torch.stack([lengths.sum(), torch.tensor(float(lengths.numel()), device=device)]).to(norms)
    if world > 1:
        for tensor in (total, count, norms):
            dist.all_reduce(tensor)
    if not bool(torch.isfinite(total).all()) or not bool(torch.isfinite(norms).all()):
        raise AuditError(
            f"the {label} model gives activations that are not finite numbers at block {layer}: its weights are broken"
        )
    return Sums(total.cpu(), count.cpu(), float(norms[0] / norms[1]))


@dataclass(frozen=True)
class Difference:
    """The difference and what it came from; vectors in float64.

    Attributes:
        layer: Block index.
        documents: Number of probe documents.
        delta: Finetuned minus base mean, (positions, d_model).
        base_mean: (positions, d_model).
        finetuned_mean: (positions, d_model).
        blocks: The difference in each block of documents, (BLOCKS, positions, d_model).
        weights: Documents in each block, (BLOCKS,).
        base_norm: Typical activation norm of the base model.
        finetuned_norm: The same of the finetuned model.
    """

    layer: int
    documents: int
    delta: Tensor
    base_mean: Tensor
    finetuned_mean: Tensor
    blocks: Tensor
    weights: Tensor
    base_norm: float
    finetuned_norm: float

    def standard_error(self) -> Tensor:
        """Norm of the standard error of `delta`, (positions,), from the spread of the block means."""
        n = len(self.blocks)
        share = (self.weights / self.weights.sum())[:, None, None]
        variance = (share**2 * (self.blocks - self.delta) ** 2).sum(0) * n / (n - 1)
        return variance.sum(-1).sqrt()

    def split_half_cosine(self) -> Tensor:
        """Cosine of the differences on two disjoint halves of the probe documents, (positions,)."""
        halves = [(self.blocks[i::2] * self.weights[i::2, None, None]).sum(0) for i in (0, 1)]
        return torch.nn.functional.cosine_similarity(halves[0], halves[1], dim=-1)

    def bootstrap(self, replicates: int, seed: int) -> Tensor:
        """Differences on probe documents redrawn with replacement, a block at a time, (replicates, positions, d_model)."""
        generator = torch.Generator().manual_seed(seed)
        n = len(self.blocks)
        drawn = torch.randint(n, (replicates, n), generator=generator)
        weights = torch.zeros(replicates, n, dtype=torch.float64).scatter_add_(1, drawn, self.weights[drawn])
        weights /= weights.sum(1, keepdim=True)
        return torch.einsum("rb,bpd->rpd", weights, self.blocks)


def subtract(finetuned: Sums, base: Sums, layer: int) -> Difference:
    """Difference of two passes over the same probe documents."""
    documents = int(base.count.sum())
    blocks = (finetuned.total - base.total) / base.count[:, None, None]
    base_mean = base.total.sum(0) / documents
    finetuned_mean = finetuned.total.sum(0) / documents
    return Difference(
        layer=layer,
        documents=documents,
        delta=finetuned_mean - base_mean,
        base_mean=base_mean,
        finetuned_mean=finetuned_mean,
        blocks=blocks,
        weights=base.count,
        base_norm=base.norm,
        finetuned_norm=finetuned.norm,
    )


def random_directions(norms: Tensor, d_model: int, draws: int, seed: int) -> Tensor:
    """Gaussian directions of the given norms: the null of "there is something to read in this direction".

    Args:
        norms: Norm at each position, (positions,).
        d_model: Width.
        draws: How many draws; each has one direction per position.
        seed: Seed.

    Returns:
        (draws, positions, d_model), float64.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = torch.randn(draws, len(norms), d_model, generator=generator, dtype=torch.float64)
    scaled: Tensor = directions / directions.norm(dim=-1, keepdim=True) * norms[None, :, None]
    return scaled
