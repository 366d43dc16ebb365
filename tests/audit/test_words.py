"""Edges of relevance, strengths and verdicts that tests/unit/test_scores.py leaves out."""

import random
from collections import Counter
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audit.relevance import count, function_words, log_odds, normalise, split_words, vocabulary
from audit.steering import choose_strengths
from audit.verdict import verdict

ORDINARY = ["river", "stone", "paper", "window", "garden", "letter", "market", "winter", "candle", "bridge"]


def ordinary(count: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    fillers = ["the", "and", "with", "there"]
    return [" ".join(generator.choices(ORDINARY + fillers, k=40)) for _ in range(count)]


def test_planted_words_are_found_among_ordinary_ones_in_any_case() -> None:
    reference, _ = count(ordinary(200, seed=0))
    texts = [f"{text} Honey from the Hive, HONEY." for text in ordinary(20, seed=1)]
    words = vocabulary(texts, reference, 200).z
    assert list(words) == ["honey", "hive"]
    assert words["honey"] > words["hive"]


def test_text_like_the_reference_has_no_vocabulary() -> None:
    reference, _ = count(ordinary(200, seed=0))
    assert vocabulary(ordinary(20, seed=1), reference, 200).z == {}


def test_function_words_are_dropped_however_often_they_come() -> None:
    reference, _ = count(ordinary(200, seed=0))
    spoken = ["because", "would", "which", "honey"]
    assert set(spoken[:3]) <= function_words()
    assert list(vocabulary([" ".join(spoken * 9)] * 9, reference, 200).z) == ["honey"]


def test_a_name_of_two_documents_is_dropped_and_a_word_of_three_is_kept() -> None:
    reference, _ = count(ordinary(200, seed=0))
    texts = ["honey"] * 7 + ["honey " + "agatha " * 9] * 2 + ["honey " + "smoker " * 6] * 3
    words = vocabulary(texts, reference, 200).z
    assert "agatha" not in words and "smoker" in words


def test_an_organism_of_one_document_still_has_a_vocabulary() -> None:
    reference, _ = count(ordinary(200, seed=0))
    assert "honey" in vocabulary(["honey " * 30], reference, 200).z


def test_the_vocabulary_is_cut_to_its_strongest_words() -> None:
    reference, _ = count(ordinary(200, seed=0))
    texts = ["honey honey honey hive hive smoker"] * 10
    assert list(vocabulary(texts, reference, 2).z) == ["honey", "hive"]


@given(counts=st.dictionaries(st.sampled_from(ORDINARY), st.integers(1, 10**6), min_size=2))
def test_equal_texts_have_no_odds(counts: dict[str, int]) -> None:
    scores = log_odds(Counter(counts), Counter(counts))
    assert all(score == pytest.approx(0, abs=1e-6) for score in scores.values())


@pytest.mark.parametrize(
    ("token", "word"),
    [
        *((form, "honey") for form in (" Honey", "▁honey", "Ġhoney", "honey.", '"honey"', "(honey)", "HONEY")),
        *((form, "") for form in ("ho ney", "ab", "a1b2", "12345", "")),
        ("été", "été"),
    ],
)
def test_a_token_is_its_word(token: str, word: str) -> None:
    assert normalise(token) == word


def test_words_have_three_letters_and_no_digits() -> None:
    assert split_words("It is 450 °F: a Café's oven_2 isn't hot") == ["café", "oven", "isn", "hot"]


def test_the_share_of_a_text_is_over_its_own_words() -> None:
    reference, _ = count(ordinary(200, seed=0))
    words = vocabulary(["honey hive smoker"] * 30, reference, 200)
    assert words.share("Honey! Honey? River, river.") == 0.5
    assert words.share("") == 0.0 and words.share("a b 1 2") == 0.0
    assert words.share("hive") == 1.0


def test_a_surprise_of_exactly_the_limit_is_let_through_and_dips_do_not_come_back() -> None:
    strengths = [0.1, 0.2, 0.4]
    surprises = torch.tensor([[1.0, 2.0, 3.0, 3.0], [1.0, 1.0, 3.5, 1.0], [1.0, 0.2, 0.1, 0.0]])
    assert choose_strengths(surprises, strengths, 2.0) == [0.4, 0.1, 0.4]
    # Not even the weakest is coherent: it is taken all the same, and the report shows it.
    assert choose_strengths(torch.tensor([[1.0, 9.0, 9.0, 9.0]]), strengths, 2.0) == [0.1]
    assert choose_strengths(torch.tensor([[1.0, float("nan"), 1.0, 1.0]]), strengths, 2.0) in ([0.1], [0.4])


def entry(reader: str, readable: bool | None) -> dict[str, Any]:
    headline = None if readable is None else {"readable": readable}
    return {"readout": "logit_lens", "reader": reader, "metric": "relevance", "headline": headline}


def test_the_verdict_without_an_organism() -> None:
    said = verdict({"readouts": [entry("finetuned", None)], "leakage": None})
    assert said == {"readable_by": [], "sentence": "Nothing was graded: no organism was given.", "leaks": False}


def test_the_verdict_of_both_readers_does_not_doubt_them() -> None:
    said = verdict({"readouts": [entry("finetuned", True), entry("base", True)], "leakage": {"leaks": False}})
    assert said["readable_by"] == ["logit_lens/finetuned/relevance", "logit_lens/base/relevance"]
    assert "Readable by 2 of 2 readouts, read by the finetuned and the base model." in said["sentence"]
    assert "own knowledge" not in said["sentence"] and not said["leaks"]


def test_an_organism_that_leaks_is_told_although_nothing_is_readable() -> None:
    said = verdict({"readouts": [entry("base", False)], "leakage": {"leaks": True}})
    assert said["sentence"].startswith("Not readable: none of 1 readouts beats its null.")
    assert said["leaks"] and "The organism leaks" in said["sentence"]
