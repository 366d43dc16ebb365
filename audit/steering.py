"""Steered and unsteered text on unrelated prompts.

Source: arXiv 2510.13900, section 2: the difference, at the reader's typical activation norm times a strength, is added at
every position of prompt and answer. The strength is chosen without a judge: the largest at which the base model is not too
surprised by what the steered model would say next.
"""

from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from tqdm import tqdm
from transformers import GenerationConfig, GenerationMixin, PreTrainedTokenizerBase

from audit.forward import adding, residual, starting_above
from audit.pair import Pair, Reader

ROWS_AT_ONCE = 128


@dataclass(frozen=True)
class Prompts:
    """Unrelated prompts, padded on the left so that they end together.

    Attributes:
        texts: As written.
        ids: (prompts, length).
        mask: (prompts, length).
    """

    texts: tuple[str, ...]
    ids: Tensor
    mask: Tensor


def encode_prompts(tokenizer: PreTrainedTokenizerBase, texts: list[str], chat: bool) -> Prompts:
    """Tokenises prompts: as a user's turn with the answer's header (`chat`), or as the beginning of a text."""
    rows: list[list[int]] = []
    for text in texts:
        if chat:
            turn = [{"role": "user", "content": text}]
            rendered: Any = tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)
            rows.append(rendered)
        else:
            rows.append(tokenizer(text)["input_ids"])
    length = max(len(row) for row in rows)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (length - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return Prompts(tuple(texts), ids, mask)


@torch.no_grad()
def surprise(
    pair: Pair, reader: Reader, layer: int, vectors: Tensor, strengths: list[float], norm: float, prompts: Prompts
) -> Tensor:
    """Base model's surprise at the reader's next-token distribution under steering, in nats, averaged over prompts.

    The cross-entropy E over the steered distribution of -log p_base: the one-step form of the base model's perplexity of
    steered text, exact instead of sampled.

    Args:
        pair: The models.
        reader: Which one is steered.
        layer: Block at whose output the vectors are added.
        vectors: (vectors, d_model), of any norm.
        strengths: Multiples of `norm`.
        norm: The reader's typical activation norm.
        prompts: Unrelated prompts.

    Returns:
        (vectors, 1 + strengths): first without steering.
    """
    device = pair.device
    ids, mask = prompts.ids.to(device), prompts.mask.to(device)
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    with pair.reading("base") as (_, anatomy):
        hidden = anatomy.decoder(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False)
        log_base = torch.log_softmax(anatomy.vocabulary(hidden.last_hidden_state[:, -1]).float(), dim=-1)
    unit = torch.nn.functional.normalize(vectors.float(), dim=-1)
    factors = torch.tensor([0.0, *strengths]) * norm
    rows = (unit[:, None, :] * factors[None, :, None]).flatten(0, 1).to(device)
    n = len(ids)
    values = []
    with pair.reading(reader) as (_, anatomy):
        below = residual(anatomy, layer, ids, mask, positions)
        for chunk in torch.split(rows, max(1, ROWS_AT_ONCE // n)):
            steered = (below[None] + chunk[:, None, None, :].to(below.dtype)).flatten(0, 1)
            with starting_above(anatomy, layer, steered):
                above = anatomy.decoder(
                    inputs_embeds=steered,
                    attention_mask=mask.repeat(len(chunk), 1),
                    position_ids=positions.repeat(len(chunk), 1),
                    use_cache=False,
                ).last_hidden_state[:, -1]
            p = torch.softmax(anatomy.vocabulary(above).float(), dim=-1).view(len(chunk), n, -1)
            values.append(-(p * log_base).sum(-1).mean(1))
    return torch.cat(values).view(len(vectors), len(factors)).cpu()


def choose_strengths(surprises: Tensor, strengths: list[float], max_surprise: float) -> list[float]:
    """The largest strength up to which the surprise stays within `max_surprise` of the unsteered; else the smallest.

    Args:
        surprises: As `surprise` returns it, (vectors, 1 + strengths).
        strengths: In ascending order.
        max_surprise: Nats.
    """
    chosen = []
    for row in surprises:
        best = strengths[0]
        for strength, value in zip(strengths, row[1:].tolist(), strict=True):
            if value - float(row[0]) > max_surprise:
                break
            best = strength
        chosen.append(best)
    return chosen


@torch.no_grad()
def generate(
    pair: Pair,
    reader: Reader,
    layer: int,
    vectors: Tensor,
    prompts: Prompts,
    *,
    new_tokens: int,
    temperature: float,
    seed: int,
    label: str,
) -> list[list[str]]:
    """Samples one answer per vector and prompt.

    Args:
        pair: The models.
        reader: Which one is steered.
        layer: Block at whose output the vectors are added.
        vectors: What is added, at its own norm, (vectors, d_model); a zero vector gives unsteered text.
        prompts: Unrelated prompts.
        new_tokens: Length of each answer.
        temperature: Of plain sampling: the generation defaults that a model brings along (top-p, top-k) are not used.
        seed: Seed of the sampling.
        label: Shown beside the progress bar.

    Returns:
        For each vector, its answers in the order of the prompts.
    """
    device = pair.device
    tokenizer = pair.tokenizer
    n = len(prompts.texts)
    settings = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True,
        temperature=temperature,
        top_k=0,
        top_p=1.0,
        max_new_tokens=new_tokens,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    texts: list[str] = []
    with pair.reading(reader) as (model, anatomy):
        assert isinstance(model, GenerationMixin | PeftModel)
        torch.manual_seed(seed)
        for chunk in tqdm(torch.split(vectors.float(), max(1, ROWS_AT_ONCE // n)), desc=label, leave=False):
            ids = prompts.ids.repeat(len(chunk), 1).to(device)
            mask = prompts.mask.repeat(len(chunk), 1).to(device)
            with adding(anatomy, layer, chunk.repeat_interleave(n, 0).to(device)):
                out = model.generate(  # type: ignore[no-untyped-call]
                    input_ids=ids, attention_mask=mask, generation_config=settings
                )
            texts += tokenizer.batch_decode(out[:, ids.shape[1] :], skip_special_tokens=True)
    return [texts[i : i + n] for i in range(0, len(texts), n)]
