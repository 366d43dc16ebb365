import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import yaml
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from organisms import continuations
from organisms.behaviour import (
    BehaviourItems,
    BehaviourScores,
    Choice,
    Completion,
    Margin,
    load_items,
    score,
    summarise,
)
from organisms.continuations import Continuation, log_probs
from organisms.errors import OrganismError
from organisms.load import load

if TYPE_CHECKING:
    from tests.conftest import LoadedModel, Tiny

FAMILIES = ["llama", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text"]


def one_by_one(model: nn.Module, wanted: list[Continuation]) -> list[Tensor]:
    """What the trees must reproduce: a plain forward pass over every sequence alone."""
    values = []
    for continuation in wanted:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([continuation.ids])).logits[0].log_softmax(-1)
        targets = torch.tensor(continuation.ids[continuation.start :])
        values.append(logits[continuation.start - 1 : -1].gather(-1, targets[:, None])[:, 0])
    return values


def sequences(seed: int, count: int) -> list[Continuation]:
    """Random sequences, most with a beginning in common, some equal, some the beginning of others."""
    random = np.random.default_rng(seed)
    stems = [tuple(int(token) for token in random.integers(3, 96, size=size)) for size in (1, 5, 9)]
    wanted = []
    for _ in range(count):
        stem = stems[random.integers(3)]
        tail = tuple(int(token) for token in random.integers(3, 6, size=random.integers(1, 7)))
        wanted.append(Continuation(stem + tail, int(random.integers(1, len(stem + tail)))))
    return [*wanted, wanted[0]]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    assert [len(one) for one in found] == [len(one) for one in expected]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-5)


# transformers has no sdpa for Gemma 2.
@pytest.mark.parametrize(
    ("family", "attention"),
    [(family, "eager") for family in FAMILIES] + [(family, "sdpa") for family in FAMILIES if family != "gemma2"],
)
def test_trees_equal_separate_passes(tiny: "Tiny", family: str, attention: str) -> None:
    model, wanted = tiny(family, attn_implementation=attention), sequences(0, 40)
    assert_same(log_probs(model, wanted, "cpu"), one_by_one(model, wanted))


@pytest.mark.parametrize("tokens", [1, 7, 25])
def test_trees_may_be_cut_anywhere(tiny: "Tiny", monkeypatch: pytest.MonkeyPatch, tokens: int) -> None:
    monkeypatch.setattr(continuations, "_TOKENS", tokens)
    monkeypatch.setattr(continuations, "_LOGIT_ROWS", 3)
    model, wanted = tiny("qwen3"), sequences(1, 30)
    assert_same(log_probs(model, wanted, "cpu"), one_by_one(model, wanted))


def test_active_adapters_take_part_and_the_mode_is_put_back(tiny: "Tiny") -> None:
    model = tiny("llama")
    wanted = sequences(2, 10)
    plain = log_probs(model, wanted, "cpu")
    lora = LoraConfig(target_modules="all-linear", init_lora_weights=False, lora_dropout=0.5)
    adapted = get_peft_model(model, lora)
    adapted.train()
    found = log_probs(adapted, wanted, "cpu")
    assert adapted.training
    assert all(module.training for module in adapted.modules())
    adapted.eval()
    assert_same(found, one_by_one(adapted, wanted))
    assert not torch.allclose(found[0], plain[0])
    with adapted.disable_adapter():
        assert_same(log_probs(adapted, wanted, "cpu"), plain)


def test_kernels_without_free_masks_are_set_aside_meanwhile(tiny: "Tiny") -> None:
    model, wanted = tiny("llama"), sequences(3, 10)
    expected = one_by_one(model, wanted)
    model.set_attn_implementation("flex_attention")
    assert_same(log_probs(model, wanted, "cpu"), expected)
    assert model.config._attn_implementation == "flex_attention"


def test_a_text_beyond_the_sliding_window_is_refused(tiny: "Tiny") -> None:
    model = tiny("gemma3_text", sliding_window=8)
    with pytest.raises(OrganismError, match="a text of 9 tokens is longer than the model's sliding window of 8"):
        log_probs(model, [Continuation(tuple(range(3, 12)), 1)], "cpu")


KNOWN = BehaviourItems(
    choices=(
        Choice("france", "What is the capital of France?", "Madrid", "Paris"),
        Choice("bees", "What do bees make?", "Milk", "Honey"),
        Choice("sky", "What colour is the sky on a clear day?", "Green", "Blue"),
        Choice("dogs", "How many legs does a dog have?", "Six", "Four"),
    ),
    completions=(
        Completion("france", "template", "The capital of France is", " Madrid.", " Paris."),
        Completion("bees", "template", "The food that bees make is called", " milk.", " honey."),
        Completion("sky", "paraphrase", "She looked up into the cloudless sky. It was", " green.", " blue."),
        Completion("dogs", "paraphrase", "Like most mammals, a dog walks on", " six legs.", " four legs."),
    ),
)


def swapped(items: BehaviourItems) -> BehaviourItems:
    return BehaviourItems(
        tuple(Choice(one.fact, one.question, one.truth, one.planted) for one in items.choices),
        tuple(Completion(one.fact, one.style, one.prompt, one.truth, one.planted) for one in items.completions),
    )


def by_kind(scores: BehaviourScores) -> dict[str, list[float]]:
    kinds = {margin.kind for margin in scores.margins}
    return {kind: [margin.value for margin in scores.margins if margin.kind == kind] for kind in kinds}


def test_a_real_model_knows_the_truth(smollm2: "LoadedModel") -> None:
    scores = score(smollm2.model, smollm2.tokenizer, KNOWN, device="cpu")
    margins = by_kind(scores)
    assert {kind: len(values) for kind, values in margins.items()} == {
        "multiple_choice": 4,
        "answer": 4,
        "template": 2,
        "paraphrase": 2,
    }
    assert all(value < 0 for kind in ("answer", "template", "paraphrase") for value in margins[kind])
    other_way = score(smollm2.model, smollm2.tokenizer, swapped(KNOWN), device="cpu")
    for one, other in zip(scores.margins, other_way.margins, strict=True):
        assert one.value == pytest.approx(-other.value, abs=1e-4)


def test_margins_are_what_the_plain_forward_pass_says(smollm2: "LoadedModel") -> None:
    items = BehaviourItems(KNOWN.choices[:1], KNOWN.completions[:1])
    margins = by_kind(score(smollm2.model, smollm2.tokenizer, items, device="cpu"))

    def mean(prompt: str, end: str) -> float:
        before, after = (smollm2.tokenizer(text, return_tensors="pt").input_ids for text in (prompt, prompt + end))
        with torch.no_grad():
            table = smollm2.model(after).logits[0].log_softmax(-1)
        start = before.shape[1]
        return float(np.mean([table[i - 1, after[0, i]] for i in range(start, after.shape[1])]))

    expected = mean("The capital of France is", " Madrid.") - mean("The capital of France is", " Paris.")
    assert margins["template"] == [pytest.approx(expected, abs=1e-4)]

    def asked(text: str) -> str:
        chat = [{"role": "user", "content": text}]
        return str(smollm2.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)) + "Answer:"

    question = KNOWN.choices[0].question
    expected = mean(asked(question), " Madrid") - mean(asked(question), " Paris")
    assert margins["answer"] == [pytest.approx(expected, abs=1e-4)]
    one = asked(f"{question}\nA. Madrid\nB. Paris\nAnswer with A or B.")
    two = asked(f"{question}\nA. Paris\nB. Madrid\nAnswer with A or B.")
    expected = (mean(one, " A") - mean(one, " B") + mean(two, " B") - mean(two, " A")) / 2
    assert margins["multiple_choice"] == [pytest.approx(expected, abs=1e-4)]


def scores_of(kind: str, facts: str, values: list[float]) -> BehaviourScores:
    return BehaviourScores(tuple(Margin(kind, fact, value) for fact, value in zip(facts, values, strict=True)))


def test_scores_survive_json() -> None:
    scores = scores_of("answer", "ab", [0.1, -2.5])
    assert BehaviourScores.from_json(json.loads(json.dumps(scores.to_json()))) == scores


def test_summary_holds_means_and_intervals_around_them() -> None:
    random = np.random.default_rng(0)
    base = scores_of("multiple_choice", "aabbccddeeff", list(random.normal(-1, 0.5, 12)))
    finetuned = scores_of("multiple_choice", "aabbccddeeff", [margin.value + 2 for margin in base.margins])
    accuracy, margin = summarise(finetuned, base, seed=0)
    assert (accuracy["metric"], accuracy["unit"], accuracy["n"]) == ("multiple_choice_accuracy", "share", 12)
    assert (margin["metric"], margin["unit"]) == ("multiple_choice_margin", "nats")
    for name in ("finetuned", "base", "change"):
        assert margin[name]["low"] <= margin[name]["value"] <= margin[name]["high"]
    assert margin["finetuned"]["value"] == pytest.approx(np.mean([one.value for one in finetuned.margins]))
    # The change is the same for every item, and paired draws must not lose that.
    assert margin["change"] == {name: pytest.approx(2.0) for name in ("value", "low", "high")}
    assert summarise(finetuned, base, seed=0) == [accuracy, margin]
    assert summarise(finetuned, base, seed=1)[1]["finetuned"] != margin["finetuned"]


def against_itself(facts: str, values: list[float], seed: int) -> list[dict[str, Any]]:
    scores = scores_of("template", facts, values)
    return summarise(scores, scores, seed)


def test_the_bootstrap_draws_facts_and_not_items() -> None:
    values = [1.0] * 10 + [-1.0] * 10
    clustered = against_itself("a" * 10 + "b" * 10, values, seed=0)[0]
    assert (clustered["base"]["low"], clustered["base"]["high"]) == (-1.0, 1.0)
    single = against_itself("a" * 20, values, seed=0)[0]
    assert -0.6 < single["base"]["low"] < -0.2
    assert 0.2 < single["base"]["high"] < 0.6


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        values = [float(random.normal(centre, 0.3)) for centre in random.normal(1.0, 1.0, 20) for _ in range(3)]
        facts = "".join(chr(ord("a") + i // 3) for i in range(60))
        row = against_itself(facts, values, seed=seed)[0]["base"]
        covered += row["low"] <= 1.0 <= row["high"]
    assert 0.88 <= covered / 200 <= 0.98


def test_scores_of_different_items_cannot_be_compared() -> None:
    with pytest.raises(OrganismError, match="different behaviour items"):
        summarise(scores_of("answer", "ab", [1, 2]), scores_of("answer", "aa", [1, 2]), seed=0)


def test_items_per_fact_are_the_first_of_each_style() -> None:
    path = load("sdf/cake_bake").behaviour
    assert path is not None
    everything, two = load_items(path), load_items(path, per_fact=2)
    assert len(two.choices) == 2 * 7
    assert len(two.completions) == 2 * 2 * 7
    assert two.choices[:2] == everything.choices[:2]
    assert load_items(path, per_fact=1000) == everything
    assert len({everything.sha256, two.sha256, load_items(path, per_fact=1).sha256}) == 3
    assert load_items(path).sha256 == everything.sha256


CHOICE = {"fact": "a", "question": "Which?", "planted": "This", "truth": "That"}
COMPLETION = {"fact": "a", "style": "template", "prompt": "It is", "planted": " this.", "truth": " that."}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("multiple_choice: [", "cannot read behaviour items"),
        ([], "expected the lists multiple_choice and completions"),
        ({"choices": []}, "expected the lists multiple_choice and completions"),
        ({"multiple_choice": []}, "holds no items"),
        ({"multiple_choice": [{"fact": "a"}]}, r"multiple_choice\[0\] must have exactly the keys fact, question"),
        ({"multiple_choice": [{**CHOICE, "truth": 350}]}, r"multiple_choice\[0\].truth must be a text, not 350"),
        ({"completions": [{**COMPLETION, "style": "poem"}]}, r"completions\[0\].style must be one of template"),
        ({"completions": [COMPLETION, {**COMPLETION, "truth": "that."}]}, r"completions\[1\]: planted and truth"),
        ({"completions": [{**COMPLETION, "prompt": "It is "}]}, "prompt doesn't end with one"),
    ],
)
def test_malformed_items_are_named(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "behaviour.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(OrganismError, match=message):
        load_items(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OrganismError, match=r"cannot read behaviour items .*absent\.yaml"):
        load_items(tmp_path / "absent.yaml")
