"""One audit: everything that is measured on a pair of models, in the order of audit.json."""

import datetime
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from audit.cache import Key, base_identity, cached_json, cached_tensors, digest
from audit.collateral import HeldOut, compare, compare_perplexity, held_out, repetition
from audit.config import AuditConfig
from audit.difference import Difference, Sums, collect, subtract
from audit.errors import AuditError
from audit.grading import Grader, make_grader
from audit.pair import READERS, Pair, Reader
from audit.probe import Probe, load_probe
from audit.subject import Subject
from audit.text_stage import TextScorer, leakage, load_prompts, read_steering, unsteered
from audit.token_stage import read_tokens
from audit.verdict import verdict
from data_mix.corpus import stream
from organisms.behaviour import BehaviourScores, load_items, score, summarise

SCHEMA = 1
PROBE_SEED = 0
"""Probe and held-out text are the same in every audit, whatever its seed, so that checkpoints can be compared."""


class Clock:
    """Wall seconds per stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to a stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


def audited_layer(config: AuditConfig, n_layers: int) -> int:
    """Block that is read: `audit.layer`, else floor(depth * (blocks - 1)) as the paper's tool has it.

    Raises:
        AuditError: The model has no such block.
    """
    layer = int(config.depth * (n_layers - 1)) if config.layer is None else config.layer
    if not 0 <= layer < n_layers:
        raise AuditError(f"audit.layer={config.layer}: the model has blocks 0..{n_layers - 1}")
    return layer


def check(config: AuditConfig, tokenizer: PreTrainedTokenizerBase, n_layers: int) -> None:
    """Refuses, before any training, what every audit of the run would fail on.

    Args:
        config: Settings.
        tokenizer: The base model's.
        n_layers: Blocks of the model.

    Raises:
        AuditError: There is no such layer, or too little probe or held-out text.
    """
    audited_layer(config, n_layers)
    _probes(tokenizer, config)
    _held_out_text(tokenizer, config)


def measure(
    pair: Pair, subject: Subject, config: AuditConfig
) -> tuple[dict[str, Any], Difference, list[dict[str, Any]]] | None:
    """Audits a pair of models.

    Called by every process of a run: the probe text is shared out, the rest is the first process's work.

    Args:
        pair: The models.
        subject: What they are.
        config: Settings.

    Returns:
        The content of audit.json, the difference and the sampled texts; none on processes other than the first.

    Raises:
        AuditError: Settings, corpus or model do not allow it.
    """
    clock = Clock()
    forked = [pair.device] if pair.device.type == "cuda" else []
    with torch.random.fork_rng(devices=forked):
        with clock.stage("difference"):
            base = base_identity(subject.base, subject.base_revision)
            base |= {"torch": version("torch"), "transformers": version("transformers"), "device": pair.device.type}
            probe, norm_probe = _probes(pair.tokenizer, config)
            difference, n_layers = _difference(pair, config, base, probe, norm_probe)
        if dist.is_initialized() and dist.get_rank() > 0:
            return None
        grader, scorer = None, None
        if subject.organism is not None:
            with pair.reading("finetuned") as (_, anatomy):
                rows = anatomy.head.weight.shape[0]
            grader = make_grader(subject.organism, probe.texts, config.vocabulary, pair.tokenizer, rows)
        result: dict[str, Any] = {
            "schema": SCHEMA,
            "status": "complete",
            "error": None,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "wall_seconds": clock.seconds,
            "subject": subject.describe(),
            "config": asdict(config),
            "config_sha256": config_sha256(config),
            "environment": environment(pair),
            "difference": describe_difference(difference, n_layers),
            "vocabulary": [{"word": w, "z": z} for w, z in grader.own.z.items()] if grader else [],
            "readouts": [],
            "leakage": None,
            "behaviour": [],
            "collateral": [],
            "warnings": [],
        }
        for reader in READERS:
            with clock.stage("tokens"):
                result["readouts"] += read_tokens(pair, reader, difference, grader, config, base)
        samples: list[dict[str, Any]] = []
        if grader is not None and subject.organism is not None:
            scorer = TextScorer(grader, config.embedder, pair.device)
            _texts(pair, config, base, difference, scorer, samples, result, clock)
            _held_out(pair, config, base, grader, result, clock)
            if subject.organism.behaviour is not None:
                with clock.stage("behaviour"):
                    result["behaviour"] = _behaviour(pair, config, base, subject.organism.behaviour)
        else:
            result["warnings"].append("no organism given: tokens are shown, nothing is graded")
        result["verdict"] = verdict(result)
    return result, difference, samples


def config_sha256(config: AuditConfig) -> str:
    """What of the settings decides the numbers; when the audit runs does not."""
    settings = asdict(config)
    del settings["mode"]
    return digest({"schema": SCHEMA, **settings})


def environment(pair: Pair) -> dict[str, Any]:
    """Versions and hardware behind the numbers."""
    return {
        **{name: version(name) for name in ("torch", "transformers", "peft")},
        "dtype": pair.dtype,
        "device": torch.cuda.get_device_name() if pair.device.type == "cuda" else str(pair.device),
        "threads": torch.get_num_threads(),
        "processes": dist.get_world_size() if dist.is_initialized() else 1,
    }


def describe_difference(difference: Difference, n_layers: int) -> dict[str, Any]:
    """The `difference` of audit.json."""
    columns = zip(
        difference.delta.norm(dim=-1).tolist(),
        difference.standard_error().tolist(),
        difference.split_half_cosine().tolist(),
        strict=True,
    )
    return {
        "layer": difference.layer,
        "n_layers": n_layers,
        "documents": difference.documents,
        "norm": {"finetuned": difference.finetuned_norm, "base": difference.base_norm},
        "positions": [
            {
                "position": position,
                "norm": norm,
                "relative_norm": norm / difference.finetuned_norm,
                "standard_error": error,
                "split_half_cosine": cosine,
            }
            for position, (norm, error, cosine) in enumerate(columns)
        ],
    }


def _probes(tokenizer: PreTrainedTokenizerBase, config: AuditConfig) -> tuple[Probe, Probe]:
    """Probe text for the difference and for the norm."""
    corpus = config.probe.corpus

    def take(count: int, length: int, key: str) -> Probe:
        documents = stream(corpus, "probe", seed=PROBE_SEED)
        return load_probe(documents, tokenizer, count, length, corpus, f"audit.probe.{key}")

    probe = take(config.probe.documents, config.positions, "documents")
    return probe, take(config.probe.norm_documents, config.probe.norm_length, "norm_documents")


def _difference(pair: Pair, config: AuditConfig, base: Key, probe: Probe, norm_probe: Probe) -> tuple[Difference, int]:
    def run(reader: Reader) -> Sums:
        with pair.reading(reader) as (_, anatomy):
            return collect(anatomy, layer, probe.ids, norm_probe.ids, pair.device, reader)

    with pair.reading("finetuned") as (_, anatomy):
        n_layers = anatomy.n_layers
    layer = audited_layer(config, n_layers)
    key = {
        "base": base,
        "layer": layer,
        "dtype": pair.dtype,
        "probe": _digest(probe.ids),
        "norm": _digest(norm_probe.ids),
    }

    def base_pass() -> dict[str, Tensor]:
        sums = run("base")
        return {"total": sums.total, "count": sums.count, "norm": torch.tensor(sums.norm, dtype=torch.float64)}

    kept = cached_tensors("base-sums", key, base_pass, collective=True)
    base_sums = Sums(kept["total"], kept["count"], float(kept["norm"]))
    return subtract(run("finetuned"), base_sums, layer), n_layers


def _digest(ids: Tensor) -> str:
    return digest({"ids": ids.tolist()})


def _texts(
    pair: Pair,
    config: AuditConfig,
    base: Key,
    difference: Difference,
    scorer: TextScorer,
    samples: list[dict[str, Any]],
    result: dict[str, Any],
    clock: Clock,
) -> None:
    prompts = load_prompts(pair, config)
    if config.steering.enabled:
        for reader in READERS:
            with clock.stage("steering"):
                result["readouts"] += read_steering(
                    pair, reader, difference, scorer, prompts.steering, config, base, samples
                )
    else:
        result["warnings"].append("steering was switched off (audit.steering.enabled=false)")
    with clock.stage("leakage"):
        key = {
            "base": base,
            "prompts": prompts.leakage.ids.tolist(),
            "tokens": config.steering.new_tokens,
            "temperature": config.steering.temperature,
            "seed": config.seed,
            "dtype": pair.dtype,
        }
        own = unsteered(pair, "finetuned", difference, prompts.leakage, config)
        plain = cached_json("unsteered", key, lambda: unsteered(pair, "base", difference, prompts.leakage, config))
        result["leakage"] = leakage(own, plain, scorer, config.seed)
        result["leakage"]["style"] = prompts.style
        result["collateral"].append(
            compare("repetition", "share of repeated word trigrams", repetition(own), repetition(plain), config.seed)
        )
    for reader, texts in (("finetuned", own), ("base", plain)):
        for prompt, text in zip(prompts.leakage.texts, texts, strict=True):
            samples.append(
                {
                    "kind": "leakage",
                    "reader": reader,
                    "position": None,
                    "strength": None,
                    "prompt": prompt,
                    "text": text,
                    "relevance": scorer.grader.own.share(text),
                }
            )


def _held_out_text(tokenizer: PreTrainedTokenizerBase, config: AuditConfig) -> Probe:
    settings = config.probe
    documents = stream(settings.corpus, "heldout", seed=PROBE_SEED)
    count, length = settings.heldout_documents, settings.heldout_length
    return load_probe(documents, tokenizer, count, length, settings.corpus, "audit.probe.heldout_documents")


def _held_out(
    pair: Pair, config: AuditConfig, base: Key, grader: Grader, result: dict[str, Any], clock: Clock
) -> None:
    with clock.stage("collateral"):
        text = _held_out_text(pair.tokenizer, config)
        key = {"base": base, "text": _digest(text.ids), "words": list(grader.own.z), "dtype": pair.dtype}

        def measured(reader: Reader) -> dict[str, list[float]]:
            values = held_out(pair, reader, text.ids, grader.own_ids)
            return {"nll": values.nll.tolist(), "mass": values.mass.tolist()}

        plain, own = cached_json("held-out", key, lambda: measured("base")), measured("finetuned")
        before = HeldOut(np.array(plain["nll"]), np.array(plain["mass"]))
        after = HeldOut(np.array(own["nll"]), np.array(own["mass"]))
        result["collateral"].insert(0, compare_perplexity(after.nll, before.nll, config.seed))
        result["leakage"]["mass"] = compare("mass_heldout", "probability", after.mass, before.mass, config.seed)


def _behaviour(pair: Pair, config: AuditConfig, base: Key, path: Path) -> list[dict[str, Any]]:
    items = load_items(path, config.behaviour.per_fact)

    def scored(reader: Reader) -> BehaviourScores:
        with pair.reading(reader) as (model, _):
            return score(model, pair.tokenizer, items, device=pair.device)

    key = {"base": base, "items": items.sha256, "dtype": pair.dtype, "template": pair.tokenizer.chat_template}
    kept = cached_json("behaviour", key, lambda: scored("base").to_json())
    return summarise(scored("finetuned"), BehaviourScores.from_json(kept), config.seed)


def dumps(samples: list[dict[str, Any]]) -> str:
    """Samples as JSONL."""
    return "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in samples)
