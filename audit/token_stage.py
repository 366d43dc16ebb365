"""Logit lens and Patchscope of a difference, with their intervals and nulls, by one reader."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audit.cache import Key, cached_tensors
from audit.config import AuditConfig
from audit.difference import Difference, random_directions
from audit.grading import Grader
from audit.pair import Pair, Reader
from audit.readability import Scores, grouped
from audit.tokens import Patchscope, Readout, content_embeddings, logit_lens


def read_tokens(
    pair: Pair, reader: Reader, difference: Difference, grader: Grader | None, config: AuditConfig, base: Key
) -> list[dict[str, Any]]:
    """Both token readouts by one reader, as entries of audit.json's `readouts`.

    Args:
        pair: The models.
        reader: The model that reads.
        difference: What is read.
        grader: The subject; without one only tokens are reported.
        config: The audit's settings.
        base: Identity of the base model: its readings of random directions are kept for all checkpoints.
    """
    k = len(difference.delta)
    norms = difference.delta.norm(dim=-1)
    null = random_directions(norms, difference.delta.shape[1], config.random_directions, config.seed)
    boot = difference.bootstrap(config.bootstrap, config.seed)
    norm = difference.finetuned_norm if reader == "finetuned" else difference.base_norm
    with pair.reading(reader) as (_, anatomy):
        true = torch.cat([difference.delta, difference.base_mean, difference.finetuned_mean])
        lens = [logit_lens(anatomy, v.flatten(0, -2), config.top_k) for v in (true, boot, null)]
        settings = config.patchscope
        scope = Patchscope(anatomy, pair.tokenizer, difference.layer, settings.intersection_k)
        embeddings = content_embeddings(anatomy, pair.tokenizer)

        def patch(vectors: Tensor, scales: list[float], label: str) -> Readout:
            return scope.read(vectors, norm, scales, settings.top_k, embeddings, f"{reader}, {label}")

        patched = patch(true, settings.scales, "difference")
        assert patched.scale is not None
        replicates = [patch(boot[:, p], [float(patched.scale[p])], "intervals").ids for p in range(k)]
        boot_ids = torch.stack(replicates, 1)

        def read_null() -> dict[str, Tensor]:
            readout = patch(null.flatten(0, 1), settings.scales, "null")
            return {"ids": readout.ids}

        if reader == "base":
            key = {
                "base": base,
                "layer": difference.layer,
                "norm": norm,
                "positions": k,
                "draws": config.random_directions,
                "seed": config.seed,
                "scales": settings.scales,
                "top_k": settings.top_k,
                "intersection": settings.intersection_k,
                "dtype": pair.dtype,
                "version": 1,
            }
            null_ids = cached_tensors("patchscope-null", key, read_null)["ids"]
        else:
            null_ids = read_null()["ids"]
    entries = []
    for name, readout, boots, nulls in (
        ("logit_lens", lens[0], lens[1].ids, lens[2].ids),
        ("patchscope", patched, boot_ids, null_ids),
    ):
        boots, nulls = boots.view(config.bootstrap, k, -1), nulls.view(config.random_directions, k, -1)
        entries.append(_entry(name, reader, readout, boots, nulls, k, grader, pair.tokenizer))
    return entries


def _entry(
    name: str,
    reader: Reader,
    readout: Readout,
    boot: Tensor,
    null: Tensor,
    k: int,
    grader: Grader | None,
    tokenizer: PreTrainedTokenizerBase,
) -> dict[str, Any]:
    graded: dict[str, Any] = {"headline": None, "groups": {}, "decoys": {}}
    shares: Scores | None = None
    boot_shares: Scores | None = None
    if grader is not None:
        shares, boot_shares = grader.relevance(readout.ids), grader.relevance(boot)
        graded = grouped(range(k), shares[:k], boot_shares, grader.relevance(null))
        graded["decoys"] = {
            decoy: {"value": float(grader.relevance(readout.ids[:k], decoy).max())} for decoy in grader.decoys
        }
    positions = []
    for p in range(k):
        tokens = [
            {
                "token": tokenizer.decode([token]),
                "p": probability,
                "relevant": bool(grader.own_ids[token]) if grader is not None else None,
            }
            for token, probability in zip(readout.ids[p].tolist(), readout.probabilities[p].tolist(), strict=True)
        ]
        row: dict[str, Any] = {"position": p, "value": None, "low": None, "high": None, "tokens": tokens}
        row |= {"scale": float(readout.scale[p]) if readout.scale is not None else None}
        row |= {"base_mean": None, "finetuned_mean": None}
        if shares is not None and boot_shares is not None:
            spread = torch.from_numpy(boot_shares[:, p])
            row["value"] = float(shares[p])
            row["low"] = min(row["value"], float(spread.quantile(0.025)))
            row["high"] = max(row["value"], float(spread.quantile(0.975)))
            row["base_mean"], row["finetuned_mean"] = float(shares[k + p]), float(shares[2 * k + p])
        positions.append(row)
    return {
        "readout": name,
        "reader": reader,
        "metric": "relevance",
        "unit": f"share of the top {readout.ids.shape[1]} tokens",
        "by_position": positions,
        **graded,
    }
