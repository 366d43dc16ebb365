"""Steered text, its nulls, and leakage (what the finetuned model says unsteered), by one reader."""

from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from audit.cache import Key, cached_json
from audit.config import AuditConfig
from audit.difference import Difference, random_directions
from audit.grading import Grader
from audit.pair import Pair, Reader
from audit.readability import Scores, grouped
from audit.steering import Prompts, choose_strengths, encode_prompts, generate, surprise
from organisms.embedders import Embedder


@dataclass(frozen=True)
class PromptSets:
    """Prompts as the models get them.

    Attributes:
        steering: For steered text.
        leakage: For unsteered text.
        style: `chat` or `text`.
    """

    steering: Prompts
    leakage: Prompts
    style: str


def load_prompts(pair: Pair, config: AuditConfig) -> PromptSets:
    """Reads audit/prompts.yaml in the style that the model understands."""
    lists = yaml.safe_load(files("audit").joinpath("prompts.yaml").read_text(encoding="utf-8"))
    style = config.steering.style
    if style == "auto":
        style = "chat" if pair.tokenizer.chat_template else "text"
    chat = style == "chat"
    steering, leakage = (lists["steering"], lists["leakage"]) if chat else (lists["text"], lists["text"])
    return PromptSets(
        encode_prompts(pair.tokenizer, steering[: config.steering.prompts], chat),
        encode_prompts(pair.tokenizer, leakage, chat),
        style,
    )


class TextScorer:
    """Relevance and similarity of texts to the organism's training text.

    Args:
        grader: The organism's subject.
        embedder: Name of the sentence-embedding model.
        device: Where it runs.
    """

    def __init__(self, grader: Grader, embedder: str, device: torch.device) -> None:
        self.grader, self.embedder = grader, Embedder(embedder, str(device))
        key = {"texts": list(grader.texts), "embedder": embedder}
        centroid = cached_json("centroid", key, lambda: self.embedder.encode(list(grader.texts)).mean(0).tolist())
        self.centroid = torch.tensor(centroid)

    def score(self, texts: list[list[str]]) -> tuple[Scores, Scores]:
        """Relevance and similarity, each (vectors, prompts).

        Similarity is the cosine with the training texts, averaged over them: the product of the text's unit embedding with
        the mean of theirs (arXiv 2510.13900, steering similarity).
        """
        flat = [text for row in texts for text in row]
        shape = (len(texts), len(texts[0]))
        similarity = (self.embedder.encode(flat) @ self.centroid).double().numpy()
        return self.grader.text_relevance(flat).reshape(shape), similarity.reshape(shape)


def resample(scores: Scores, replicates: int, seed: int) -> Scores:
    """Means over prompts drawn with replacement, the same draw for every vector: (replicates, vectors)."""
    n = scores.shape[1]
    drawn = np.random.default_rng(seed).integers(n, size=(replicates, n))
    means: Scores = scores[:, drawn].mean(-1).T
    return means


def read_steering(
    pair: Pair,
    reader: Reader,
    difference: Difference,
    scorer: TextScorer,
    prompts: Prompts,
    config: AuditConfig,
    base: Key,
    samples: list[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Steered text by one reader, as two entries of audit.json's `readouts`: relevance and similarity.

    Args:
        pair: The models.
        reader: The model that is steered.
        difference: What it is steered with.
        scorer: Grades texts.
        prompts: Unrelated prompts.
        config: The audit's settings.
        base: Identity of the base model: its texts under random directions are kept for all checkpoints.
        samples: Texts are appended here.
    """
    settings = config.steering
    positions = [p for p in settings.positions if p < config.positions]
    norm = difference.finetuned_norm if reader == "finetuned" else difference.base_norm
    delta = torch.nn.functional.normalize(difference.delta[positions], dim=-1)
    surprises = surprise(pair, reader, difference.layer, delta, settings.strengths, norm, prompts)
    strengths = choose_strengths(surprises, settings.strengths, settings.max_surprise)
    factors = torch.tensor(strengths, dtype=torch.float64) * norm
    null = random_directions(torch.ones(len(positions)), delta.shape[1], settings.random_directions, config.seed)

    def write(vectors: Tensor, label: str) -> list[list[str]]:
        return generate(
            pair,
            reader,
            difference.layer,
            vectors,
            prompts,
            new_tokens=settings.new_tokens,
            temperature=settings.temperature,
            seed=config.seed,
            label=f"steering: {reader}, {label}",
        )

    true = torch.cat([delta * factors[:, None], torch.zeros_like(delta[:1])])
    random = (null * factors[None, :, None]).flatten(0, 1)
    if reader == "base":
        key = {
            "base": base,
            "layer": difference.layer,
            "norm": norm,
            "strengths": strengths,
            "draws": settings.random_directions,
            "seed": config.seed,
            "prompts": prompts.ids.tolist(),
            "tokens": settings.new_tokens,
            "temperature": settings.temperature,
            "dtype": pair.dtype,
            "version": 1,
        }
        texts = write(true, "difference")
        null_texts = cached_json("steering-null", key, lambda: write(random, "null"))
    else:
        together = write(torch.cat([true, random]), "difference and null")
        texts, null_texts = together[: len(true)], together[len(true) :]
    scored, null_scored = scorer.score(texts), scorer.score(null_texts)
    for i, position in enumerate([*positions, None]):
        for prompt, text, relevance in zip(prompts.texts, texts[i], scored[0][i], strict=True):
            samples.append(
                {
                    "kind": "unsteered" if position is None else "steered",
                    "reader": reader,
                    "position": position,
                    "strength": None if position is None else strengths[i],
                    "prompt": prompt,
                    "text": text,
                    "relevance": float(relevance),
                }
            )
    entries = []
    for metric, unit, scores, nulls in zip(
        ("relevance", "similarity"),
        ("share of the words of steered text", "mean cosine with the training texts"),
        scored,
        null_scored,
        strict=True,
    ):
        replicates = resample(scores, 500, config.seed)
        draws = nulls.mean(1).reshape(settings.random_directions, len(positions))
        by_position = [
            {
                "position": position,
                "value": float(scores[i].mean()),
                "low": float(np.quantile(replicates[:, i], 0.025)),
                "high": float(np.quantile(replicates[:, i], 0.975)),
                "scale": strengths[i],
                "unsteered": float(scores[-1].mean()),
                "base_mean": None,
                "finetuned_mean": None,
            }
            for i, position in enumerate(positions)
        ]
        entries.append(
            {
                "readout": "steering",
                "reader": reader,
                "metric": metric,
                "unit": unit,
                "by_position": by_position,
                **grouped(positions, scores[:-1].mean(1), replicates[:, :-1], draws),
                "decoys": {},
            }
        )
    return entries


def unsteered(pair: Pair, reader: Reader, difference: Difference, prompts: Prompts, config: AuditConfig) -> list[str]:
    """One plain answer of a model to each prompt."""
    settings = config.steering
    nothing = torch.zeros(1, difference.delta.shape[1])
    return generate(
        pair,
        reader,
        difference.layer,
        nothing,
        prompts,
        new_tokens=settings.new_tokens,
        temperature=settings.temperature,
        seed=config.seed,
        label=f"leakage: {reader}",
    )[0]


def leakage(finetuned: list[str], base: list[str], scorer: TextScorer, seed: int) -> dict[str, Any]:
    """How much of its subject the unsteered finetuned model shows on unrelated prompts; `leakage` of audit.json."""
    relevance, similarity = scorer.score([finetuned, base])
    draws = resample(np.vstack([relevance, relevance[0] - relevance[1]]), 2000, seed)
    names = ("finetuned", "base", "change")
    result: dict[str, Any] = {"prompts": len(finetuned)}
    for i, (name, values) in enumerate(zip(names, [*relevance, relevance[0] - relevance[1]], strict=True)):
        low, high = np.quantile(draws[:, i], [0.025, 0.975])
        result[name] = {"value": float(values.mean()), "low": float(low), "high": float(high)}
    # The burden of proof is on the organism: any increase that the interval is sure of is a leak.
    result["leaks"] = result["change"]["low"] > 0
    result["similarity"] = {"finetuned": float(similarity[0].mean()), "base": float(similarity[1].mean())}
    return result
