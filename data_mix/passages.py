"""From the paragraphs of a native document to passages of a few hundred words, without near-duplicates."""

import re
import zlib
from collections.abc import Iterable, Iterator

MIN_WORDS = 100
TARGET_WORDS = 150
MAX_WORDS = 350

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\u201d\u2019]*\s+(?=[\"'(\u201c\u2018]?[A-Z])")
_SPACES = re.compile(r"[ \t\u00a0\u200b]+")
_SHINGLE_WORDS = 8
# ASCII on purpose: what str.isalpha accepts changes with the Unicode tables of each Python.
_PLAIN = re.compile(r"[A-Za-z\s]")


def passages(paragraphs: Iterable[str], separator: str = "\n\n") -> list[str]:
    """Pack paragraphs into passages that start and end at paragraph bounds.

    A passage is closed once it has `TARGET_WORDS`; no passage exceeds `MAX_WORDS` (a longer paragraph is cut between
    sentences). What is shorter than `MIN_WORDS` joins the passage before it if there is room and is dropped if not.

    Args:
        paragraphs: Paragraphs of one native document, in order.
        separator: What stands between paragraphs.
    """
    packed: list[list[str]] = []
    current: list[str] = []
    for piece in (piece for paragraph in paragraphs for piece in _sentences_within_limit(tidy(paragraph))):
        if current and _words(current) + _words([piece]) > MAX_WORDS:
            packed.append(current)
            current = []
        current.append(piece)
        if _words(current) >= TARGET_WORDS:
            packed.append(current)
            current = []
    if current:
        if packed and _words(current) < MIN_WORDS and _words(packed[-1]) + _words(current) <= MAX_WORDS:
            packed[-1].extend(current)
        else:
            packed.append(current)
    return [separator.join(pieces) for pieces in packed if MIN_WORDS <= _words(pieces) <= MAX_WORDS]


def tidy(paragraph: str) -> str:
    """One paragraph on one line with single spaces.

    Args:
        paragraph: Raw text.
    """
    return _SPACES.sub(" ", paragraph.replace("\n", " ")).strip()


def is_prose(text: str, share: float = 0.85) -> bool:
    """Whether letters and white space make up at least `share` of the text (tables, code and lists of figures don't).

    Args:
        text: A passage.
        share: Between 0 and 1.
    """
    return len(_PLAIN.findall(text)) >= share * len(text)


class NearDuplicates:
    """Remembers word 8-grams; a passage that shares over half of its own with earlier ones is a near-duplicate."""

    def __init__(self) -> None:
        """Nothing seen yet."""
        self._seen: set[int] = set()

    def is_new(self, text: str) -> bool:
        """Whether `text` is no near-duplicate of an earlier passage; remembers it if so.

        Args:
            text: A passage.
        """
        shingles = set(_shingles(text))
        if 2 * len(shingles & self._seen) > len(shingles):
            return False
        self._seen |= shingles
        return True


def _shingles(text: str) -> Iterator[int]:
    words = re.findall(r"[a-z0-9']+", text.lower())
    for start in range(max(1, len(words) - _SHINGLE_WORDS + 1)):
        yield zlib.crc32(" ".join(words[start : start + _SHINGLE_WORDS]).encode())


def _sentences_within_limit(paragraph: str) -> list[str]:
    if _words([paragraph]) <= MAX_WORDS:
        return [paragraph] if paragraph else []
    pieces: list[str] = []
    for sentence in _SENTENCE_END.split(paragraph):
        if pieces and _words([pieces[-1]]) < TARGET_WORDS and _words([pieces[-1], sentence]) <= MAX_WORDS:
            pieces[-1] = f"{pieces[-1]} {sentence}"
        else:
            pieces.append(sentence)
    return pieces


def _words(pieces: list[str]) -> int:
    return sum(len(piece.split()) for piece in pieces)
