"""Fixtures of all tests: real and tiny models. Nothing here may reach the hub."""

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

# The same examples every time: a suite that fails now and then is believed by nobody.
settings.register_profile("steady", derandomize=True)
settings.load_profile("steady")

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Tiny(Protocol):
    """Makes tiny models."""

    def __call__(self, model_type: str, **settings: object) -> "PreTrainedModel":
        """A new random model."""


class LoadedModel(NamedTuple):
    """A model in eval mode, float32, with its tokenizer."""

    name: str
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"


@pytest.fixture(scope="session")
def smollm2() -> LoadedModel:
    """The real SmolLM2-135M-Instruct, shared by all tests: leave it as it was."""
    from organisms.base_models import load_model, load_tokenizer

    name = "embedded/smollm2-135m"
    return LoadedModel(name, load_model(name), load_tokenizer(name))


@pytest.fixture(scope="session")
def tiny() -> "Tiny":
    """`tiny("gemma3_text")`: a new random model of that `model_type`: 3 blocks of width 16, vocabulary 96, eval mode.

    Keyword arguments change its config. The same arguments give the same weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    def make(model_type: str, **settings: object) -> "PreTrainedModel":
        torch.manual_seed(0)
        shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 3, "vocab_size": 96, "head_dim": 8}
        heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 256}
        special = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "initializer_range": 0.5}
        config = AutoConfig.for_model(model_type, **{**shape, **heads, **special, **settings})
        model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=torch.float32
        )
        model.eval()  # type: ignore[no-untyped-call]
        return model

    return make
