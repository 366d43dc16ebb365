"""What audit.json, log.jsonl, samples.jsonl and manifest.jsonl hold, as far as the reports read it (schema 1)."""

from dataclasses import dataclass
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Headline:
    """Readability over a group of positions: the maximum, its interval and its null after the same maximum."""

    value: float
    position: int
    low: float
    high: float
    null_median: float
    null_95: float
    null_n: int
    p_value: float
    readable: bool


@dataclass(frozen=True)
class Token:
    """One token of a readout; `relevant` is None where nothing is known of the organism."""

    token: str
    p: float
    relevant: bool | None


@dataclass(frozen=True)
class Position:
    """A readout at one token position; `scale` is the Patchscope scale or the steering strength."""

    position: int
    value: float | None
    low: float | None
    high: float | None
    scale: float | None = None
    tokens: tuple[Token, ...] = ()
    base_mean: float | None = None
    finetuned_mean: float | None = None
    unsteered: float | None = None


@dataclass(frozen=True)
class Grade:
    """A score against a decoy's vocabulary."""

    value: float


@dataclass(frozen=True)
class Readout:
    """One readout by one reader under one metric."""

    readout: str
    reader: str
    metric: str
    unit: str
    by_position: tuple[Position, ...]
    headline: Headline | None
    groups: dict[str, Headline]
    decoys: dict[str, Grade]

    @property
    def key(self) -> str:
        """Its name in the verdict, e.g. `patchscope/finetuned/relevance`."""
        return f"{self.readout}/{self.reader}/{self.metric}"


@dataclass(frozen=True)
class Comparison:
    """A behaviour or collateral metric of the finetuned and the base model."""

    metric: str
    finetuned: Interval
    base: Interval
    change: Interval
    unit: str | None = None
    n: int | None = None


@dataclass(frozen=True)
class PairOfNumbers:
    """A number of each model."""

    finetuned: float
    base: float


@dataclass(frozen=True)
class Leakage:
    """The subject's words in unsteered text on unrelated prompts; `mass`: their probability in held-out text."""

    prompts: int
    finetuned: Interval
    base: Interval
    leaks: bool
    similarity: PairOfNumbers | None = None
    change: Interval | None = None
    mass: Comparison | None = None


@dataclass(frozen=True)
class DifferenceAt:
    """The difference at one token position."""

    position: int
    norm: float
    relative_norm: float
    standard_error: float
    split_half_cosine: float


@dataclass(frozen=True)
class Difference:
    """What was read."""

    layer: int
    n_layers: int
    documents: int
    norm: PairOfNumbers
    positions: tuple[DifferenceAt, ...]


@dataclass(frozen=True)
class Word:
    """A word of the organism's vocabulary."""

    word: str
    z: float


@dataclass(frozen=True)
class Subject:
    """Whose audit it is."""

    base: str
    base_revision: str | None
    finetuned: str
    kind: str
    weights_sha256: str
    organism: str | None
    title: str
    description: str
    control_of: str | None
    run: str | None
    step: int | None
    steps: int | None
    ratio: float | None
    share: float | None
    unit: str | None
    hold: str | None
    seed: int | None
    exposure: int | None
    exposure_total: int | None
    pretraining_loss_tokens: int | None
    train_loss: float | None
    lora_scale: float | None


@dataclass(frozen=True)
class Verdict:
    """What the audit concludes, against the nulls of one checkpoint."""

    readable_by: tuple[str, ...]
    sentence: str
    leaks: bool


@dataclass(frozen=True)
class Audit:
    """A complete audit.json."""

    schema: int
    status: str
    created: str
    wall_seconds: dict[str, float]
    subject: Subject
    config: dict[str, Any]
    config_sha256: str
    environment: dict[str, Any]
    difference: Difference
    vocabulary: tuple[Word, ...]
    readouts: tuple[Readout, ...]
    leakage: Leakage | None
    behaviour: tuple[Comparison, ...]
    collateral: tuple[Comparison, ...]
    verdict: Verdict
    warnings: tuple[str, ...]

    def headlines(self) -> dict[str, Headline]:
        """Headline numbers by readout key; none where the organism is unknown."""
        return {readout.key: readout.headline for readout in self.readouts if readout.headline is not None}


@dataclass(frozen=True)
class FailedAudit:
    """An audit.json whose audit did not finish."""

    schema: int
    status: str
    error: str
    created: str = ""


@dataclass(frozen=True)
class Sample:
    """A line of samples.jsonl."""

    kind: str
    reader: str
    prompt: str
    text: str
    relevance: float | None
    position: int | None = None
    strength: float | None = None


@dataclass(frozen=True)
class LogLine:
    """A line of log.jsonl; a step without rows of one kind has no loss of that kind."""

    step: int
    loss: float | None  # a loss that is no number
    learning_rate: float
    grad_norm: float | None
    exposure: int
    pretraining_loss_tokens: int
    tokens_per_second: float
    seconds: float
    loss_organism: float | None = None
    loss_control: float | None = None
    loss_pretraining: float | None = None


@dataclass(frozen=True)
class ManifestLine:
    """A line of manifest.jsonl."""

    name: str
    overrides: tuple[str, ...]
    status: str


@dataclass(frozen=True)
class Requested:
    """The mix that was asked for."""

    ratio: float
    unit: str
    hold: str
    share: float | None
    corpus: str


@dataclass(frozen=True)
class Counts:
    """What one source came to."""

    rows: int
    tokens: int
    loss_tokens: int
    documents: int | None = None


@dataclass(frozen=True)
class Ledger:
    """mix.json; `cumulative` holds loss tokens after each step, by source."""

    requested: Requested
    batch_rows: int
    steps: int
    control: bool
    sources: dict[str, Counts]
    realised: dict[str, float | None]
    cumulative: dict[str, tuple[int, ...]]

    def exposure_at(self, step: int) -> int | None:
        """Organism loss tokens after a step; None beyond the mix."""
        seen = self.cumulative.get("organism", ())
        return seen[step - 1] if 0 < step <= len(seen) else None
