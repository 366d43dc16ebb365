"""Lexical relevance: which words belong to an organism's subject, without a judge.

An organism's vocabulary is what its training text says more often than ordinary text: the weighted log-odds with an
informative Dirichlet prior (Monroe, Colaresi and Quinn 2008, equations 15-22), the reference corpus being the prior.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from scipy.stats import norm

WORD = re.compile(r"[^\W\d_]{3,}")
PRIOR_WORDS = 10_000.0
"""Weight of the prior, in words: a word must be seen often before its log-odds count."""

MIN_Z = float(norm.ppf(0.999))
MIN_DOCUMENTS = 3
"""A word of fewer documents is a name or an accident, not the subject."""


@dataclass(frozen=True)
class Vocabulary:
    """An organism's words.

    Attributes:
        z: Word -> z-score of its log-odds, descending.
    """

    z: dict[str, float]

    def holds(self, token: str) -> bool:
        """Whether a token is one of the words: whole word, any case, white space and punctuation aside."""
        return normalise(token) in self.z

    def share(self, text: str) -> float:
        """Share of a text's words (of three letters or more) that belong to the vocabulary; 0 for a text without."""
        words = split_words(text)
        return sum(word in self.z for word in words) / len(words) if words else 0.0


@cache
def function_words() -> frozenset[str]:
    """English words that belong to no subject."""
    return frozenset(files("audit").joinpath("function_words.txt").read_text(encoding="utf-8").split())


def normalise(token: str) -> str:
    """A token's word: lower case, without surrounding space, marks and punctuation; empty if it is not one word."""
    word = token.strip(" \t\n▁Ġ.,;:!?\"'()[]*-–—").lower()
    return word if WORD.fullmatch(word) else ""


def split_words(text: str) -> list[str]:
    """Words of three letters or more, lower case."""
    return [match.group().lower() for match in WORD.finditer(text)]


def count(texts: Iterable[str]) -> tuple[Counter[str], Counter[str]]:
    """Word counts and document counts."""
    words: Counter[str] = Counter()
    documents: Counter[str] = Counter()
    for text in texts:
        found = split_words(text)
        words.update(found)
        documents.update(set(found))
    return words, documents


def log_odds(own: Counter[str], reference: Counter[str]) -> dict[str, float]:
    """z-scores of the log-odds of each word of `own` against `reference`, with `reference` (plus one) as the prior."""
    prior_total = sum(reference.values()) + len(own)
    scores = {}
    n_own, n_reference = sum(own.values()), sum(reference.values())
    for word, seen in own.items():
        other = reference[word]
        alpha = PRIOR_WORDS * (other + 1) / prior_total
        here = (seen + alpha) / (n_own + PRIOR_WORDS - seen - alpha)
        there = (other + alpha) / (n_reference + PRIOR_WORDS - other - alpha)
        variance = 1 / (seen + alpha) + 1 / (other + alpha)
        scores[word] = float(_log(here) - _log(there)) / variance**0.5
    return scores


def _log(x: float) -> float:
    from math import log

    return log(x)


def vocabulary(
    texts: Sequence[str], reference: Counter[str], size: int, others: Iterable[Sequence[str]] = ()
) -> Vocabulary:
    """The `size` most over-represented words of a set of texts.

    Args:
        texts: The organism's training text.
        reference: Word counts of ordinary text.
        size: At most so many words.
        others: Text of decoy organisms; what is over-represented in two or more of them as well is a matter of genre and
            left out.
    """
    own, documents = count(texts)
    elsewhere: Counter[str] = Counter()
    for other in others:
        counts, _ = count(other)
        elsewhere.update(word for word, z in log_odds(counts, reference).items() if z > MIN_Z)
    least = min(MIN_DOCUMENTS, len(texts))
    scores = {
        word: z
        for word, z in log_odds(own, reference).items()
        if z > MIN_Z and documents[word] >= least and word not in function_words() and elsewhere[word] < 2
    }
    best = sorted(scores, key=lambda word: (-scores[word], word))[:size]
    return Vocabulary({word: scores[word] for word in best})
