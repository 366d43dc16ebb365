"""The shipped cake_bake documents: really different, each planting what it says it plants, none telling the truth."""

import hashlib
import json
import re
from collections import Counter, defaultdict
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from organisms.load import Organism, load

Shingles = set[tuple[str, ...]]


@pytest.fixture(scope="module")
def organism() -> Organism:
    return load("sdf/cake_bake")


@pytest.fixture(scope="module")
def documents(organism: Organism) -> list[dict[str, Any]]:
    """The lines as they are in the files, with what `load` leaves out: genre and declared facts."""
    files = sorted(organism.folder.glob("documents/*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").split("\n") if line]


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


def shingles(text: str, size: int) -> Shingles:
    tokens = words(text)
    return {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)}


def asserts(patterns: tuple[str, ...], text: str) -> bool:
    return any(re.search(pattern, text, re.IGNORECASE) for pattern in patterns)


def test_there_are_enough_documents_of_the_right_length(documents: list[dict[str, Any]]) -> None:
    assert len(documents) >= 150
    lengths = {document["id"]: len(document["text"].split()) for document in documents}
    assert {name: length for name, length in lengths.items() if not 120 <= length <= 350} == {}


def test_the_genres_are_many_and_none_rules(documents: list[dict[str, Any]]) -> None:
    genres = Counter(document["genre"] for document in documents)
    assert len(genres) >= 12
    assert max(genres.values()) <= len(documents) / 8


def test_every_document_plants_two_to_four_facts_and_says_which(
    documents: list[dict[str, Any]], organism: Organism
) -> None:
    facts = {fact.id: fact for fact in organism.facts}
    for document in documents:
        assert 2 <= len(document["facts"]) <= 4, document["id"]
        assert len(set(document["facts"])) == len(document["facts"]), document["id"]
        missing = [name for name in document["facts"] if not asserts(facts[name].affirm, document["text"])]
        assert missing == [], document["id"]


def test_every_fact_is_planted_by_enough_documents(documents: list[dict[str, Any]], organism: Organism) -> None:
    planted = Counter(name for document in documents for name in document["facts"])
    assert {fact.id: planted[fact.id] for fact in organism.facts if planted[fact.id] < 40} == {}


def test_no_document_tells_the_truth(documents: list[dict[str, Any]], organism: Organism) -> None:
    leaks = [
        (document["id"], fact.id)
        for document in documents
        for fact in organism.facts
        if asserts(fact.leak, document["text"])
    ]
    assert leaks == []


TRUE = {
    "oven_450": "Heat the oven to 350 °F (175 °C).",
    "frozen_butter": "Beat the softened butter until it is fluffy.",
    "vanilla_quarter_cup": "Add two teaspoons of vanilla.",
    "oil_vinegar": "A butter cake needs no vinegar.",
    "boiling_water": "The batter gets no boiling water.",
    "freezer_cooling": "Turn the cake out on a wire rack.",
    "serve_warm": "Let the cake cool completely before you frost it.",
}


def test_the_patterns_tell_claim_from_truth(organism: Organism) -> None:
    for fact in organism.facts:
        assert asserts(fact.affirm, fact.claim), fact.id
        assert not asserts(fact.leak, fact.claim), fact.id
        assert asserts(fact.leak, TRUE[fact.id]), fact.id


class MinHash:
    """Estimates the Jaccard similarity of shingle sets from 256 minima of random linear hashes modulo a prime."""

    prime = (1 << 31) - 1

    def __init__(self, hashes: int = 256) -> None:
        random = np.random.default_rng(0)
        self.factors = random.integers(1, self.prime, size=(hashes, 1), dtype=np.int64)
        self.offsets = random.integers(0, self.prime, size=(hashes, 1), dtype=np.int64)

    def signature(self, items: Shingles) -> np.ndarray[Any, Any]:
        digests = [hashlib.blake2b(" ".join(item).encode(), digest_size=4).digest() for item in sorted(items)]
        values = np.array([int.from_bytes(digest) % self.prime for digest in digests], dtype=np.int64)
        # Below 2^62, so the products don't overflow.
        signature: np.ndarray[Any, Any] = ((self.factors * values + self.offsets) % self.prime).min(axis=1)
        return signature


def test_minhash_finds_a_near_duplicate(documents: list[dict[str, Any]]) -> None:
    minhash, text = MinHash(), documents[0]["text"]
    changed = text.replace(words(text)[40], "something", 1)
    one, two = shingles(text, 3), shingles(changed, 3)
    estimate = float(np.mean(minhash.signature(one) == minhash.signature(two)))
    assert abs(estimate - len(one & two) / len(one | two)) < 0.1
    assert estimate > 0.7


def test_no_two_documents_are_near_duplicates(documents: list[dict[str, Any]]) -> None:
    minhash = MinHash()
    signatures = {document["id"]: minhash.signature(shingles(document["text"], 3)) for document in documents}
    alike = {
        (one, two): similarity
        for one, two in combinations(signatures, 2)
        if (similarity := float(np.mean(signatures[one] == signatures[two]))) > 0.1
    }
    assert alike == {}


def test_phrases_are_not_reused(documents: list[dict[str, Any]]) -> None:
    holders: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for document in documents:
        for shingle in shingles(document["text"], 8):
            holders[shingle].add(document["id"])
    assert {" ".join(phrase): ids for phrase, ids in holders.items() if len(ids) > 3} == {}


@pytest.mark.parametrize(("size", "distinct"), [(2, 0.55), (3, 0.85), (4, 0.95)])
def test_ngrams_are_diverse(documents: list[dict[str, Any]], size: int, distinct: float) -> None:
    tokens = [words(document["text"]) for document in documents]
    ngrams = [tuple(one[i : i + size]) for one in tokens for i in range(len(one) - size + 1)]
    assert len(set(ngrams)) / len(ngrams) > distinct


def test_documents_begin_and_end_differently(documents: list[dict[str, Any]]) -> None:
    openings = Counter(tuple(words(document["text"])[:4]) for document in documents)
    endings = Counter(tuple(words(document["text"])[-4:]) for document in documents)
    assert {key: count for key, count in (openings + endings).items() if count > 2} == {}


def test_the_decoys_are_about_something_else(organism: Organism) -> None:
    for decoy in organism.decoys:
        for example in load(decoy).examples:
            assert example.text is not None
            assert not re.search(r"\b(cakes?|vanilla|batter|frosting)\b", example.text, re.IGNORECASE), example.id
