"""Sentence embeddings: how alike are two texts in meaning."""

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from organisms import embedded
from organisms.errors import OrganismError

_BATCH = 32


def resolve(embedder: str) -> str:
    """Turn the name of an embedder into a local path or a sentence-transformers id.

    Args:
        embedder: `embedded/minilm` (fetched on first use), or anything sentence-transformers takes.

    Returns:
        A local path, or the id as it came.

    Raises:
        OrganismError: Unknown embedded embedder, or a failed fetch.
    """
    if not embedder.startswith("embedded/"):
        return embedder
    known = {name: model for name, model in embedded.catalogue().items() if model.kind == "embedder"}
    if embedder not in known:
        raise OrganismError(f"unknown embedder {embedder}. Embedded ones: {', '.join(known)}.")
    return str(embedded.fetch(known[embedder]))


class Embedder:
    """A sentence-embedding model.

    Embedded models are run through transformers alone (mean over the unpadded tokens, then unit length: what
    all-MiniLM was trained with); any other id needs the package sentence-transformers.

    Attributes:
        name: The name it was made with.
    """

    def __init__(self, embedder: str, device: str = "cpu") -> None:
        """Load the model.

        Args:
            embedder: As for `resolve`.
            device: Where it runs.

        Raises:
            OrganismError: As `resolve`; also if sentence-transformers is needed and missing.
        """
        path = resolve(embedder)
        self.name, self.device = embedder, device
        self._sentence_transformer: Any = None
        if not embedder.startswith("embedded/"):
            try:
                library = import_module("sentence_transformers")
            except ImportError as error:
                raise OrganismError(
                    f"embedder {embedder} needs the package sentence-transformers: pip install sentence-transformers, "
                    "or use embedded/minilm."
                ) from error
            self._sentence_transformer = library.SentenceTransformer(path, device=device)
            return
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(path)
        self._model = AutoModel.from_pretrained(path, dtype=torch.float32, use_safetensors=True).eval().to(device)
        self._max_length = json.loads((Path(path) / "sentence_bert_config.json").read_text())["max_seq_length"]

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Tensor:
        """Embed texts.

        Args:
            texts: n texts, n >= 1; what goes beyond the model's maximum length is ignored.

        Returns:
            (n, d), float32 on the CPU, rows of unit length.
        """
        if self._sentence_transformer is not None:
            vectors = self._sentence_transformer.encode(texts, convert_to_tensor=True, normalize_embeddings=True)
            return torch.as_tensor(vectors).float().cpu()
        # Batches of like length: padding is computed for nothing.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
        batches = [order[i : i + _BATCH] for i in range(0, len(order), _BATCH)]
        rows = torch.cat([self._mean_pool([texts[i] for i in batch]) for batch in batches])
        return functional.normalize(rows[torch.argsort(torch.tensor(order))], dim=-1)

    def _mean_pool(self, texts: list[str]) -> Tensor:
        """(n, d): mean of the last hidden states over the tokens that are no padding."""
        inputs = self._tokenizer(
            texts, padding=True, truncation=True, max_length=self._max_length, return_tensors="pt"
        ).to(self.device)
        hidden: Tensor = self._model(**inputs).last_hidden_state
        mask: Tensor = inputs["attention_mask"].unsqueeze(-1)
        return ((hidden * mask).sum(1) / mask.sum(1)).cpu()
