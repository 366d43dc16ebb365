"""Readouts that give tokens: logit lens and Patchscope.

Sources: arXiv 2510.13900, section 2 (both readouts); nostalgebraist 2020 (logit lens); Ghandeharioun et al. 2024
(Patchscopes). What differs from the paper's tool and why: docs/audit.md.
"""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import DynamicCache, PreTrainedTokenizerBase
from transformers.cache_utils import DynamicLayer

from audit.forward import starting_above
from audit.relevance import function_words, normalise
from organisms.anatomy import Anatomy

IDENTITY_PROMPTS = (
    "man -> man\n1135 -> 1135\nhello -> hello\n?",
    "bear -> bear\n42 -> 42\nblue -> blue\n?",
    "921 -> 921\ntarget -> target\nanna -> anna\n?",
)
"""The three identity prompts of the paper's tool: the last token is replaced, the model completes `? ->`."""

CHUNK_BYTES = 32 * 2**20


@dataclass(frozen=True)
class Readout:
    """Top tokens of each vector.

    Attributes:
        ids: (vectors, k), most probable first.
        probabilities: (vectors, k).
        scale: The Patchscope scale of each vector, (vectors,); none for the logit lens.
    """

    ids: Tensor
    probabilities: Tensor
    scale: Tensor | None = None


def _rows_at_once(anatomy: Anatomy) -> int:
    return max(8, CHUNK_BYTES // (4 * anatomy.head.weight.shape[0]))


@torch.no_grad()
def logit_lens(anatomy: Anatomy, vectors: Tensor, top_k: int) -> Readout:
    """Final norm, head and softmax on the vectors themselves.

    Args:
        anatomy: Of the reader.
        vectors: (vectors, d_model).
        top_k: Tokens kept.
    """
    weight = anatomy.head.weight
    ids, probabilities = [], []
    for chunk in torch.split(vectors.to(weight.device, weight.dtype), _rows_at_once(anatomy)):
        top = torch.softmax(anatomy.logits(chunk).float(), dim=-1).topk(top_k)
        ids.append(top.indices.cpu())
        probabilities.append(top.values.cpu())
    return Readout(torch.cat(ids), torch.cat(probabilities))


def _for_rows(cache: DynamicCache, rows: int) -> DynamicCache:
    """A cache of one prompt as seen by many rows: views, copied only when a row's own token is added."""
    own = copy.deepcopy(cache)
    for layer in own.layers:
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        layer.keys = layer.keys.expand(rows, -1, -1, -1)
        layer.values = layer.values.expand(rows, -1, -1, -1)
    return own


class Patchscope:
    """Reads vectors by putting them in the place of the last token of three identity prompts.

    Each prompt is run once; its keys and values are kept, and a patched row is one token through the blocks above the
    layer.

    Args:
        anatomy: Of the reader.
        tokenizer: Its tokenizer.
        layer: Block whose output is replaced.
        intersection_k: A token must be among the so many most probable ones of all three prompts.
    """

    def __init__(self, anatomy: Anatomy, tokenizer: PreTrainedTokenizerBase, layer: int, intersection_k: int) -> None:
        self.anatomy, self.layer = anatomy, layer
        self.intersection_k = min(intersection_k, anatomy.head.weight.shape[0])
        self.caches: list[DynamicCache] = []
        weight = anatomy.head.weight
        for prompt in IDENTITY_PROMPTS:
            ids = torch.tensor([tokenizer(prompt)["input_ids"]], device=weight.device)
            with torch.no_grad():
                self.caches.append(anatomy.decoder(input_ids=ids[:, :-1], use_cache=True).past_key_values)

    @torch.no_grad()
    def probabilities(self, vectors: Tensor) -> Tensor:
        """Next-token probabilities after the patched token, averaged over the prompts and cut to their intersection.

        Args:
            vectors: What replaces the residual stream, (rows, d_model).

        Returns:
            (rows, vocabulary), float32.
        """
        weight = self.anatomy.head.weight
        vectors = vectors.to(weight.device, weight.dtype)
        mean: Tensor | None = None
        inside: Tensor | None = None
        for cache in self.caches:
            length = cache.get_seq_length()
            own = _for_rows(cache, len(vectors))
            with starting_above(self.anatomy, self.layer, vectors[:, None, :]):
                hidden = self.anatomy.decoder(
                    inputs_embeds=vectors[:, None, :],
                    position_ids=torch.full((len(vectors), 1), length, device=weight.device),
                    past_key_values=own,
                    use_cache=True,
                ).last_hidden_state
            p = torch.softmax(self.anatomy.vocabulary(hidden[:, -1]).float(), dim=-1)
            least = p.kthvalue(p.shape[1] - self.intersection_k + 1, dim=-1, keepdim=True).values
            mean = p if mean is None else mean + p
            inside = (p >= least) if inside is None else inside & (p >= least)
        assert mean is not None and inside is not None
        return mean / len(self.caches) * inside

    def read(
        self, vectors: Tensor, norm: float, scales: list[float], top_k: int, embeddings: Tensor, label: str = ""
    ) -> Readout:
        """Top tokens of each vector at the scale whose tokens hang together best.

        Args:
            vectors: (vectors, d_model), of any norm.
            norm: The reader's typical activation norm; a scale of 1 gives a vector this norm.
            scales: Candidate scales.
            top_k: Tokens kept.
            embeddings: Token embeddings that `coherence` compares, (vocabulary, d_model).
            label: Shown beside the progress bar.
        """
        unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
        ids, probabilities, chosen = [], [], []
        step = max(1, _rows_at_once(self.anatomy) // len(scales))
        factors = torch.tensor(scales, dtype=torch.float32) * norm
        for chunk in tqdm(torch.split(unit, step), desc=f"Patchscope: {label}", leave=False):
            rows = (chunk[:, None, :] * factors[None, :, None]).flatten(0, 1)
            top = self.probabilities(rows).topk(top_k)
            best = coherence(top.indices, embeddings).view(len(chunk), len(scales)).argmax(1)
            pick = torch.arange(len(chunk)) * len(scales) + best.cpu()
            ids.append(top.indices.cpu()[pick])
            probabilities.append(top.values.cpu()[pick])
            chosen.append(torch.tensor(scales)[best.cpu()])
        return Readout(torch.cat(ids), torch.cat(probabilities), torch.cat(chosen))


def coherence(ids: Tensor, embeddings: Tensor) -> Tensor:
    """How well the content words of a readout hang together: mean cosine over all pairs of tokens.

    Pairs with a token that is no content word count as zero, so a list of many related words beats a list of few, and a
    list of punctuation and function words scores nothing.

    Args:
        ids: (readouts, k).
        embeddings: As `content_embeddings` gives them, (vocabulary, d_model).

    Returns:
        (readouts,), in [-1, 1].
    """
    k = ids.shape[1]
    rows = embeddings[ids]
    own = rows.square().sum((-1, -2))
    return (rows.sum(1).square().sum(-1) - own) / (k * (k - 1))


def content_embeddings(anatomy: Anatomy, tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Token embeddings (the head's rows) without their mean and of norm 1; zero for tokens that are no content word.

    Returns:
        (vocabulary, d_model), float32.
    """
    weight = anatomy.head.weight.detach().float()
    words = [normalise(token) for token in tokenizer.batch_decode([[i] for i in range(len(tokenizer))])]
    content = torch.zeros(len(weight), 1, device=weight.device)
    content[: len(words), 0] = torch.tensor([float(bool(w) and w not in function_words()) for w in words])
    return torch.nn.functional.normalize(weight - weight.mean(0), dim=-1) * content
