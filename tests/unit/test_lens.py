"""The lens against independent few-line computations on full forwards."""

import copy
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from audit.difference import BLOCKS, collect, random_directions, subtract
from audit.forward import adding, residual, starting_above
from audit.tokens import IDENTITY_PROMPTS, Patchscope, logit_lens
from organisms.anatomy import anatomy

SIZES = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "sliding_window": 16,
}
LAYER = 1


def build(model: type[PreTrainedModel], config: type) -> Callable[[], PreTrainedModel]:
    def make() -> PreTrainedModel:
        torch.manual_seed(0)
        sizes = dict(SIZES)
        if config in (LlamaConfig, Qwen2Config, Qwen3Config):
            del sizes["sliding_window"]
        made = model(config(**sizes)).eval()
        for parameter in made.parameters():
            nn.init.normal_(parameter, std=0.3)
        return made

    return make


MODELS = {
    "llama": build(LlamaForCausalLM, LlamaConfig),
    "qwen2": build(Qwen2ForCausalLM, Qwen2Config),
    "qwen3": build(Qwen3ForCausalLM, Qwen3Config),
    "gemma2": build(Gemma2ForCausalLM, Gemma2Config),
    "gemma3": build(Gemma3ForCausalLM, Gemma3TextConfig),
}


@pytest.fixture(params=sorted(MODELS))
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return MODELS[request.param]()


class Letters:
    """A tokenizer for the identity prompts: one token a character."""

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [1, *[ord(c) % 300 for c in text]]}


def hidden_after(model: PreTrainedModel, layer: int, ids: torch.Tensor) -> torch.Tensor:
    return model(input_ids=ids, output_hidden_states=True).hidden_states[layer + 1]


def finetuned(model: PreTrainedModel) -> PreTrainedModel:
    other = copy.deepcopy(model)
    torch.manual_seed(1)
    for parameter in other.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return other


@torch.no_grad()
def test_the_streamed_difference_is_the_naive_one_in_float64(model: PreTrainedModel) -> None:
    tuned = finetuned(model)
    ids = torch.randint(2, 300, (53, 5))
    norms = torch.randint(2, 300, (7, 12))
    cpu = torch.device("cpu")
    sums = [collect(anatomy(m), LAYER, ids, norms, cpu, "test") for m in (tuned, model)]
    difference = subtract(*sums, LAYER)
    wide = [copy.deepcopy(m).double() for m in (tuned, model)]
    naive = torch.stack([hidden_after(m, LAYER, ids).mean(0) for m in wide])
    torch.testing.assert_close(difference.delta, naive[0] - naive[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(difference.finetuned_mean, naive[0], rtol=1e-4, atol=1e-4)
    typical = hidden_after(wide[0], LAYER, norms)[:, 5:].norm(dim=-1).mean()
    assert difference.finetuned_norm == pytest.approx(float(typical), rel=1e-4)
    # The error is that of a mean of independent documents: near the naive one, which needs every document kept.
    spread = (hidden_after(wide[0], LAYER, ids) - hidden_after(wide[1], LAYER, ids)).var(0).sum(-1)
    ratio = difference.standard_error() / (spread / len(ids)).sqrt()
    assert bool(((ratio > 0.6) & (ratio < 1.6)).all()), ratio


@torch.no_grad()
def test_an_adapter_switched_off_is_the_base(model: PreTrainedModel) -> None:
    plain = copy.deepcopy(model)
    adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False))
    ids = torch.randint(2, 300, (3, 5))
    with_adapter = residual(anatomy(adapted), LAYER, ids)
    with adapted.disable_adapter():
        without = residual(anatomy(adapted), LAYER, ids)
    assert torch.equal(without, residual(anatomy(plain), LAYER, ids))
    assert not torch.allclose(with_adapter, without)


@torch.no_grad()
def test_patchscope_is_a_full_forward_with_one_vector_replaced(model: PreTrainedModel) -> None:
    parts = anatomy(model)
    vectors = torch.randn(6, 32) * 3
    ours = Patchscope(parts, Letters(), LAYER, intersection_k=120).probabilities(vectors)  # type: ignore[arg-type]
    for vector, row in zip(vectors, ours, strict=True):
        each = []
        for prompt in IDENTITY_PROMPTS:
            ids = torch.tensor([Letters()(prompt)["input_ids"]])

            def replace(_m: nn.Module, _a: object, out: torch.Tensor, v: torch.Tensor = vector) -> torch.Tensor:
                out = out.clone()
                out[:, -1] = v
                return out

            handle = parts.blocks[LAYER].register_forward_hook(replace)
            each.append(model(input_ids=ids).logits[0, -1].softmax(-1))
            handle.remove()
        p = torch.stack(each)
        inside = (p >= p.topk(120).values[:, -1:]).all(0)
        torch.testing.assert_close(row, p.mean(0) * inside, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def test_patchscope_leaves_the_model_as_it_was(model: PreTrainedModel) -> None:
    ids = torch.randint(2, 300, (2, 9))
    before = model(input_ids=ids).logits
    Patchscope(anatomy(model), Letters(), LAYER, 100).probabilities(torch.randn(3, 32))  # type: ignore[arg-type]
    assert torch.equal(model(input_ids=ids).logits, before)


@torch.no_grad()
def test_logit_lens_is_norm_head_softmax(model: PreTrainedModel) -> None:
    vectors = torch.randn(4, 32, dtype=torch.float64)
    readout = logit_lens(anatomy(model), vectors, 7)
    last = list(anatomy(model).blocks)[-1]
    handle = last.register_forward_hook(lambda _m, _a, out: vectors[:, None].float().expand(4, out.shape[1], 32))
    p = model(input_ids=torch.zeros(4, 2, dtype=torch.long)).logits[:, -1].softmax(-1)
    handle.remove()
    assert torch.equal(readout.ids, p.topk(7).indices)
    torch.testing.assert_close(readout.probabilities, p.topk(7).values)


@torch.no_grad()
def test_steering_adds_each_rows_vector_everywhere(model: PreTrainedModel) -> None:
    ids = torch.randint(2, 300, (2, 6))
    vectors = torch.randn(2, 32)
    seen: list[torch.Tensor] = []
    anatomy(model).blocks[LAYER + 1].register_forward_pre_hook(lambda _m, args: seen.append(args[0]))
    model(input_ids=ids)
    with adding(anatomy(model), LAYER, vectors):
        model(input_ids=ids)
    plain, steered = seen
    torch.testing.assert_close(steered - plain, vectors[:, None].expand(2, 6, 32), rtol=1e-4, atol=1e-4)


def test_random_directions_have_the_norms_and_are_reproducible() -> None:
    norms = torch.tensor([1.0, 7.0], dtype=torch.float64)
    draws = random_directions(norms, 16, 5, seed=3)
    torch.testing.assert_close(draws.norm(dim=-1), norms.expand(5, 2))
    assert torch.equal(draws, random_directions(norms, 16, 5, seed=3))
    assert not torch.equal(draws, random_directions(norms, 16, 5, seed=4))


def test_blocks_hold_every_document_once() -> None:
    model = MODELS["llama"]()
    ids = torch.randint(2, 300, (BLOCKS * 2 + 3, 5))
    sums = collect(anatomy(model), LAYER, ids, ids.repeat(1, 3), torch.device("cpu"), "test")
    assert sums.count.sum() == len(ids)
    expected = hidden_after(model, LAYER, ids).double().sum(0).detach()
    torch.testing.assert_close(sums.total.sum(0), expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_going_on_above_a_layer_is_the_whole_forward(model: PreTrainedModel) -> None:
    parts = anatomy(model)
    ids = torch.randint(2, 300, (3, 7))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7, [0, 1, 1, 1, 1, 1, 1]])
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    below = residual(parts, LAYER, ids, mask, positions)
    with starting_above(parts, LAYER, below):
        above = parts.decoder(inputs_embeds=below, attention_mask=mask, position_ids=positions, use_cache=False)
    whole = model(input_ids=ids, attention_mask=mask, position_ids=positions).logits[:, -1]
    torch.testing.assert_close(parts.vocabulary(above.last_hidden_state[:, -1]), whole, rtol=1e-4, atol=1e-4)
