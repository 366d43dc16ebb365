"""Settings of the audit. Imports nothing heavy. Docs: docs/audit.md."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass
class ProbeConfig:
    """The unrelated text that the lens is computed on.

    Attributes:
        corpus: As `mix.corpus`; its `probe` split is used, which no mix ever contains.
        documents: How many probe documents; fewer than asked for is an error.
        norm_documents: How many of them give the activation norm.
        norm_length: Tokens of each that are read for the norm (positions 5 and on count).
        heldout_documents: Documents of the `heldout` split for perplexity.
        heldout_length: Tokens of each.
    """

    corpus: str = "embedded/general"
    documents: int = 512
    norm_documents: int = 32
    norm_length: int = 16
    heldout_documents: int = 32
    heldout_length: int = 128


@dataclass
class PatchscopeConfig:
    """Patchscope on three identity prompts.

    Attributes:
        scales: Multiples of the reader's typical activation norm at the layer.
        top_k: Tokens kept per vector.
        intersection_k: A token must be in the top `intersection_k` of all three prompts.
    """

    scales: list[float] = field(default_factory=lambda: [0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0])
    top_k: int = 20
    intersection_k: int = 16384


@dataclass
class SteeringConfig:
    """Steered generation on unrelated prompts.

    Attributes:
        enabled: Off skips the readout and says so in the report.
        positions: Positions whose difference is steered with; those beyond `audit.positions` are left out.
        prompts: How many of the unrelated prompts (audit/prompts.yaml).
        style: `chat` asks them as a user, `text` begins a document with them; `auto` is chat where the tokenizer has a
            chat template.
        new_tokens: Tokens generated per sample.
        temperature: Sampling temperature.
        strengths: Candidate strengths, multiples of the reader's typical activation norm.
        max_surprise: A strength is coherent while the base model's surprise at the steered next-token distribution
            stays within this many nats of its surprise at the unsteered one.
        random_directions: Random draws of the null; each draw has one direction per position.
    """

    enabled: bool = True
    positions: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    prompts: int = 6
    style: Literal["auto", "chat", "text"] = "auto"
    new_tokens: int = 20
    temperature: float = 1.0
    strengths: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.3, 0.5, 0.75, 1.0])
    max_surprise: float = 2.0
    random_directions: int = 19


@dataclass
class BehaviourConfig:
    """How strongly the checkpoint has the property.

    Attributes:
        per_fact: At most so many multiple-choice questions and completions of each style per fact; 0 means all.
    """

    per_fact: int = 0


@dataclass
class AuditConfig:
    """What is measured on every checkpoint.

    Attributes:
        mode: `inline` audits when the checkpoint is saved; `submit` starts one job per checkpoint; `off`.
        depth: Relative depth of the layer that is read: block floor(depth * (layers - 1)).
        layer: Block index; overrides `depth`.
        positions: The first so many token positions of every probe document.
        top_k: Tokens of a logit-lens readout.
        random_directions: Random draws of the null of logit lens and Patchscope.
        bootstrap: Bootstrap replicates over blocks of probe documents, for the confidence intervals.
        vocabulary: Size of the organism's vocabulary (its most over-represented words).
        embedder: Sentence-embedding model of steering similarity: `embedded/minilm` or a sentence-transformers id.
        seed: Seed of everything random in the audit.
    """

    mode: Literal["inline", "submit", "off"] = "inline"
    depth: float = 0.5
    layer: int | None = None
    positions: int = 5
    top_k: int = 20
    random_directions: int = 39
    bootstrap: int = 32
    vocabulary: int = 200
    embedder: str = "embedded/minilm"
    seed: int = 0
    probe: ProbeConfig = field(default_factory=ProbeConfig)
    patchscope: PatchscopeConfig = field(default_factory=PatchscopeConfig)
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    behaviour: BehaviourConfig = field(default_factory=BehaviourConfig)
