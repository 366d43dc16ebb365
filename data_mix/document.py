"""One piece of ordinary text, and the split it belongs to."""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal, get_args

Split = Literal["mix", "probe", "heldout", "control"]

# Buckets of 100. Changing these or the salt moves documents between training text and probe text: never do it
# lightly, audits made before and after are not comparable.
_BOUNDS: dict[Split, range] = {
    "mix": range(0, 70),
    "probe": range(70, 80),
    "heldout": range(80, 88),
    "control": range(88, 100),
}
# Chosen among 400 so that every split of embedded/general gets its share of every source (few parents, long articles).
_SALT = "split-117"


@dataclass(frozen=True)
class Document:
    """Ordinary text: a plain document or a conversation.

    Attributes:
        id: First 16 hex digits of the SHA-256 of the text (of the canonical JSON of the messages).
        source: Where in the corpus it is from, such as `wikipedia` or a file name.
        parent: What it is a passage of (an article, a speech); the id itself if it is whole. Decides the split.
        text: The text of a plain document.
        messages: The turns of a conversation, each with `role` and `content`.
    """

    id: str
    source: str
    parent: str
    text: str | None = None
    messages: tuple[dict[str, str], ...] | None = None


def text_document(text: str, source: str, parent: str | None = None) -> Document:
    """A plain document with its id.

    Args:
        text: The text, not empty.
        source: Where it is from.
        parent: What it is a passage of, if it is not whole.
    """
    identity = _digest(text)
    return Document(identity, source, parent or identity, text=text)


def conversation_document(messages: tuple[dict[str, str], ...], source: str, parent: str | None = None) -> Document:
    """A conversation with its id.

    Args:
        messages: The turns.
        source: Where it is from.
        parent: What it is a part of, if it is not whole.
    """
    identity = _digest(json.dumps(messages, sort_keys=True, ensure_ascii=False, separators=(",", ":")))
    return Document(identity, source, parent or identity, messages=messages)


def split_of(parent: str) -> Split:
    """The split of everything that is part of `parent`: 70 % mix, 10 % probe, 8 % heldout, 12 % control.

    Args:
        parent: `Document.parent`.
    """
    bucket = int.from_bytes(hashlib.sha256(f"{_SALT}\0{parent}".encode()).digest()[:8]) % 100
    return next(split for split in get_args(Split) if bucket in _BOUNDS[split])


def permutation_key(seed: int, identity: str) -> int:
    """Place of a document in the order of `seed`: sorting by it gives a permutation that ignores where documents lie.

    Args:
        seed: Which permutation.
        identity: `Document.id`.

    Returns:
        An integer below 2**64.
    """
    return int.from_bytes(hashlib.blake2b(f"{seed}\0{identity}".encode(), digest_size=8).digest())


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:16]
