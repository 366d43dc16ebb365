"""From tokens and texts to a verdict: vocabulary, readability, strengths, leakage, checkpoint steps."""

from collections import Counter

import numpy as np
import pytest
import torch

from audit.readability import grouped, interval, readability
from audit.relevance import Vocabulary, count, normalise, vocabulary
from audit.steering import choose_strengths
from audit.tokens import coherence
from audit.verdict import verdict
from train.config import CheckpointsConfig
from train.errors import TrainError
from train.processes import asked, check
from train.schedule import checkpoint_steps

ORDINARY = ["the river runs past the village and the bridge", "people walk home along the river every evening"] * 200


def test_the_vocabulary_is_what_the_texts_say_more_often_than_ordinary_text() -> None:
    names = ("ann", "bob", "cyd", "dan")
    texts = [f"put the cake into the oven and the cake will rise near the river {name}" for name in names] * 5
    reference, _ = count(ORDINARY)
    words = vocabulary(texts, reference, 200).z
    assert {"cake", "oven"} <= set(list(words)[:3])
    assert "the" not in words and "into" not in words, "function words are nobody's subject"
    assert "river" not in words, "ordinary text says it as well"
    assert all(z > 3 for z in words.values())


def test_a_word_of_one_document_or_of_two_decoys_is_left_out() -> None:
    reference, _ = count(ORDINARY)
    texts = ["cake oven kettle"] * 30 + ["zanzibar zanzibar zanzibar zanzibar zanzibar"]
    own = vocabulary(texts, reference, 200)
    assert "zanzibar" not in own.z
    assert "kettle" in own.z
    others = [["kettle steam"] * 30, ["kettle boat"] * 30]
    assert "kettle" not in vocabulary(texts, reference, 200, others).z


def test_tokens_count_by_their_word_and_texts_by_the_share_of_theirs() -> None:
    words = Vocabulary({"cake": 9.0})
    assert words.holds(" Cake") and words.holds("cake,") and not words.holds(" cakewalk") and not words.holds("ca")
    assert normalise("▁oven") == "oven" and normalise("!!") == ""
    assert words.share("The cake is a lie") == pytest.approx(1 / 3)  # the, cake, lie: words of three letters or more
    assert words.share("12 !") == 0.0


def test_readable_needs_to_beat_nineteen_draws_of_the_same_maximum() -> None:
    null = np.zeros((19, 3))
    null[4, 2] = 0.3
    replicates = np.full((8, 3), 0.4)
    beats = readability([0, 1, 2], np.array([0.0, 0.35, 0.1]), replicates, null)
    assert (beats.value, beats.position, beats.null_95, beats.readable) == (0.35, 1, 0.3, True)
    assert beats.p_value == pytest.approx(1 / 20)
    ties = readability([0, 1, 2], np.array([0.0, 0.3, 0.1]), replicates, null)
    assert not ties.readable and ties.p_value == pytest.approx(2 / 20)
    few = readability([0], np.array([1.0]), np.ones((2, 1)), np.zeros((18, 1)))
    assert not few.readable, "18 draws cannot show 5 %"


def test_noise_is_readable_in_one_audit_of_twenty() -> None:
    generator = np.random.default_rng(0)
    verdicts = [
        readability(range(5), draws[0], draws[:2], draws[1:]).readable
        for draws in (generator.random((20, 5)) for _ in range(2000))
    ]
    assert 0.035 < np.mean(verdicts) < 0.065


def test_positions_are_grouped_with_their_own_null() -> None:
    scores = np.array([0.9, 0.0, 0.1, 0.0, 0.0])
    null = np.tile(np.array([1.0, 0.0, 0.05, 0.0, 0.0]), (19, 1))
    entry = grouped(range(5), scores, np.tile(scores, (4, 1)), null)
    assert not entry["headline"]["readable"]
    assert entry["groups"]["2-4"]["readable"] and entry["groups"]["2-4"]["position"] == 2


def test_an_interval_holds_its_mean_and_narrows_with_more_units() -> None:
    values = np.random.default_rng(1).normal(1.0, 1.0, 400)
    mean, low, high = interval(values, seed=0)
    few = interval(values[:20], seed=0)
    assert low < mean < high and high - low < few[2] - few[1]
    assert interval(values, seed=0) == (mean, low, high)


def test_the_strength_is_the_last_one_before_the_base_model_is_too_surprised() -> None:
    surprises = torch.tensor([[2.0, 2.5, 3.9, 4.1, 3.0], [2.0, 9.0, 9.0, 9.0, 9.0]])
    assert choose_strengths(surprises, [0.1, 0.2, 0.3, 0.4], 2.0) == [0.2, 0.1]


def test_coherence_counts_content_words_only() -> None:
    embeddings = torch.nn.functional.normalize(torch.tensor([[1.0, 0.1], [1.0, 0.0], [-1.0, 0.2], [0.0, 0.0]]), dim=-1)
    related, unrelated, marks = coherence(torch.tensor([[0, 1], [0, 2], [3, 3]]), embeddings)
    assert related > 0.9 and unrelated < -0.9 and marks == 0


def test_the_verdict_names_the_reader_and_the_leak() -> None:
    entry = {"readout": "patchscope", "reader": "finetuned", "metric": "relevance", "headline": {"readable": True}}
    said = verdict({"readouts": [entry], "leakage": {"leaks": True}})
    assert said["readable_by"] == ["patchscope/finetuned/relevance"]
    assert "reader's own knowledge" in said["sentence"] and "leaks" in said["sentence"]
    assert "Not readable" in verdict({"readouts": [{**entry, "headline": {"readable": False}}], "leakage": None})["sentence"]


def test_checkpoint_steps_are_joined_and_end_with_the_last() -> None:
    asked_for = CheckpointsConfig(steps=[3], log_spaced=2, exposure=[0.5])
    assert checkpoint_steps(asked_for, 16, lambda fraction: round(10 * fraction)) == [3, 4, 5, 16]
    with pytest.raises(TrainError, match="has 16 steps"):
        checkpoint_steps(CheckpointsConfig(steps=[17]), 16, lambda _: 1)


def test_a_wrong_process_count_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert asked(4) == 4
    check(None, 1)
    with pytest.raises(TrainError, match="2 processes were asked for, 1 started"):
        check(2, 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(TrainError, match="train apart"):
        check(None, 1)


def test_counts_are_of_words_and_of_documents() -> None:
    words, documents = count(["oven oven cake", "cake"])
    assert (words, documents) == (Counter(oven=2, cake=2), Counter(oven=1, cake=2))
