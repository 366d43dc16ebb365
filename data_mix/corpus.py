"""Ordinary text by name: one seeded order, four splits that share no document, whatever the corpus."""

import heapq
from collections.abc import Callable, Iterator
from typing import Any

from data_mix import embedded, hub, local
from data_mix.document import Document, Split, permutation_key, split_of
from data_mix.errors import MixError

__all__ = ["Document", "Split", "describe", "stream"]

# Documents held at once while the next ones in the order are picked out. The first pass is enough for every embedded
# corpus; later passes hold more so that a big mix reads its corpus few times.
_HELD_FIRST = 8_192
_HELD_MOST = 131_072


def stream(
    corpus: str,
    split: Split,
    *,
    seed: int,
    text_field: str = "text",
    hub_config: str | None = None,
    hub_split: str = "train",
) -> Iterator[Document]:
    """The documents of one split, in the order of `seed`.

    Embedded and local: the order is a permutation that depends on the seed and each document's own hash only, so it
    does not change when files are added, renamed or reordered. Exact copies appear once. Hub: the dataset's own order,
    shuffled through a seeded buffer. The splits are cut by a hash of the parent and share no document.

    Args:
        corpus: `embedded/general`, `embedded/general-plus`, a file or glob (JSONL, JSONL.gz, Parquet, txt), or
            `hub:<dataset id>`.
        split: `mix` for training, `probe` for the lens, `heldout` for perplexity, `control` for controls.
        seed: Which permutation.
        text_field: Column with the text (or messages) of a local or hub corpus.
        hub_config: Configuration of a hub dataset.
        hub_split: Split of a hub dataset.

    Returns:
        An iterator; what it reads, it reads when asked. Memory is bounded by a number of documents, not by the corpus.

    Raises:
        MixError: There is no such corpus or split (at once); a file is damaged, a column is missing, the corpus holds
            no text, the hub cannot be reached (when reading).
    """
    if corpus.startswith("hub:"):
        return hub.stream(corpus, split, seed, text_field, hub_config, hub_split)
    if corpus.startswith("embedded/"):
        embedded.sources(corpus)
        return _ordered(corpus, lambda: embedded.documents(corpus), split, seed)
    paths = local.files(corpus)
    return _ordered(corpus, lambda: local.read(paths, text_field), split, seed)


def describe(corpus: str) -> dict[str, Any]:
    """What can be said about a corpus without fetching or reading it.

    Args:
        corpus: As for `stream`.

    Returns:
        `name`, `kind` (embedded, local, hub), `cached`, `sources` (each with `name` and `licence`), and `documents`
        and `characters` of the whole and `splits` (documents by split), each None where it is not known.

    Raises:
        MixError: There is no such corpus.
    """
    told: dict[str, Any] = {"name": corpus, "documents": None, "characters": None, "splits": None}
    if corpus.startswith("hub:"):
        return {**told, "kind": "hub", "cached": False, "sources": [{"name": corpus[4:], "licence": None}]}
    if corpus.startswith("embedded/"):
        entries = embedded.sources(corpus).items()
        total = (embedded.origin(corpus) or {}).get("total")
        told["sources"] = [{"name": name, "licence": entry["licence"]} for name, entry in entries]
        told |= {key: total[key] for key in ("documents", "characters", "splits")} if total else {}
        return {**told, "kind": "embedded", "cached": total is not None}
    names = [{"name": path.name, "licence": None} for path in local.files(corpus)]
    return {**told, "kind": "local", "cached": True, "sources": names}


def _ordered(corpus: str, read: Callable[[], Iterator[Document]], split: Split, seed: int) -> Iterator[Document]:
    last, held, empty = -1, _HELD_FIRST, True
    while True:
        keyed = ((permutation_key(seed, document.id), document) for document in read())
        batch = heapq.nsmallest(
            held,
            ((key, document) for key, document in keyed if key > last and split_of(document.parent) == split),
            key=lambda pair: pair[0],
        )
        if not batch and empty:
            raise MixError(f"mix.corpus={corpus} holds no text for the split '{split}'.")
        for key, document in batch:
            if key > last:
                last, empty = key, False
                yield document
        if len(batch) < held:
            return
        held = min(4 * held, _HELD_MOST)
