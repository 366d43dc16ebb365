"""One row per checkpoint: what the tables of the run and sweep reports and report.json are made of."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audit.report.collect import Cell, Checkpoint, Run, State
from audit.report.schema import Audit, Comparison, Headline

MatchedBy = Literal["ratio and step", "exposure"]


LONG_REASON = 160


@dataclass(frozen=True)
class ControlValue:
    """What the same readout says of a control.

    Attributes:
        value: Headline; with several control seeds the largest.
        low: Of that one.
        high: Of that one.
        cell: Which control.
        step: Its step.
        exposure: Its exposure.
        matched_by: What the control has in common with the row.
    """

    value: float
    low: float
    high: float
    cell: str
    step: int
    exposure: int | None
    matched_by: MatchedBy


@dataclass(frozen=True)
class Row:
    """A checkpoint in its cell; `missing` is one that other cells have and this one has not.

    Attributes:
        cell: Name of the cell or run.
        group: What else sets its cell apart (another base model, another rank), in words; empty if nothing does.
        is_control: Of a control.
        ratio: Mix ratio.
        share: Its share.
        seed: Training seed.
        step: Optimizer step.
        exposure: Organism loss tokens seen.
        state: Whether there are numbers, and why not.
        reason: Why not, in words.
        folder: The checkpoint's.
        audit: The numbers.
        controls: The control's number for each readout key.
    """

    cell: str
    group: str
    is_control: bool
    ratio: float | None
    share: float | None
    seed: int | None
    step: int | None
    exposure: int | None
    state: State | Literal["missing"]
    reason: str | None = None
    folder: Path | None = None
    audit: Audit | None = None
    controls: dict[str, ControlValue] = field(default_factory=dict)

    def headline(self, key: str) -> Headline | None:
        """The headline of a readout, if there is one."""
        return self.audit.headlines().get(key) if self.audit else None

    def readable(self, key: str) -> bool:
        """Whether a readout beats its own null and, where there is one, the control."""
        headline = self.headline(key)
        if headline is None or not headline.readable:
            return False
        control = self.controls.get(key)
        return control is None or headline.value > control.value

    @property
    def brief_reason(self) -> str:
        """Why there are no numbers, in one line."""
        first = (self.reason or self.state).strip().partition("\n")[0]
        return first if len(first) <= LONG_REASON else f"{first[:LONG_REASON]}…"

    @property
    def leaks(self) -> bool:
        """Whether unsteered text already shows the subject."""
        return self.audit is not None and self.audit.verdict.leaks

    def behaviour(self, metric: str) -> Comparison | None:
        """A behaviour metric."""
        return _find(self.audit.behaviour, metric) if self.audit else None

    def collateral(self, metric: str) -> Comparison | None:
        """A collateral metric."""
        return _find(self.audit.collateral, metric) if self.audit else None

    def to_json(self, root: Path) -> dict[str, Any]:
        """As report.json has it; paths relative to `root`."""
        row: dict[str, Any] = {
            "cell": self.cell,
            "group": self.group,
            "control": self.is_control,
            "organism": (self.audit.subject.control_of or self.audit.subject.organism) if self.audit else None,
            **{
                name: getattr(self, name) for name in ("ratio", "share", "seed", "step", "exposure", "state", "reason")
            },
            "checkpoint": self.folder.relative_to(root).as_posix() if self.folder else None,
        }
        if self.audit is None:
            return row | {"headlines": {}, "behaviour": {}, "leakage": None, "collateral": {}, "verdict": None}
        headlines = {}
        for key, headline in self.audit.headlines().items():
            own = dataclasses.asdict(headline)
            control = self.controls.get(key)
            headlines[key] = own | {
                "beats_null": own.pop("readable"),
                "control": dataclasses.asdict(control) if control else None,
                "readable": self.readable(key),
            }
        return row | {
            "headlines": headlines,
            "behaviour": {one.metric: dataclasses.asdict(one) for one in self.audit.behaviour},
            "leakage": dataclasses.asdict(self.audit.leakage) if self.audit.leakage else None,
            "collateral": {one.metric: dataclasses.asdict(one) for one in self.audit.collateral},
            "verdict": dataclasses.asdict(self.audit.verdict),
        }


def _find(comparisons: Iterable[Comparison], metric: str) -> Comparison | None:
    return next((one for one in comparisons if one.metric == metric), None)


def keys_of(rows: Iterable[Row]) -> set[str]:
    """All readout keys of some rows."""
    return {key for row in rows if row.audit for key in row.audit.headlines()}


def metrics_of(rows: Iterable[Row], kind: Literal["behaviour", "collateral"]) -> list[str]:
    """Metrics in the order in which they first occur."""
    return list(dict.fromkeys(one.metric for row in rows if row.audit for one in getattr(row.audit, kind)))


def rows_of_run(run: Run, cell: str, group: str = "", overrides: dict[str, str] | None = None) -> list[Row]:
    """A row for each checkpoint of a run."""
    facts = facts_of(Cell(cell, overrides or {}, "", run))
    return [_row(checkpoint, run, cell, group, facts) for checkpoint in run.checkpoints]


def _row(checkpoint: Checkpoint, run: Run, cell: str, group: str, facts: dict[str, Any]) -> Row:
    audit = checkpoint.audit
    exposure = audit.subject.exposure if audit else None
    if exposure is None and run.ledger is not None:
        exposure = run.ledger.exposure_at(checkpoint.step)
    reasons = {"unsealed": "unsealed, not audited", "not audited": "not audited", "failed": "the audit failed"}
    reason = reasons.get(checkpoint.state)
    return Row(
        cell=cell,
        group=group,
        **facts,
        step=checkpoint.step,
        exposure=exposure,
        state=checkpoint.state,
        reason=f"{reason}: {checkpoint.error}" if reason and checkpoint.error else reason,
        folder=checkpoint.folder,
        audit=audit,
    )


def facts_of(cell: Cell) -> dict[str, Any]:
    """Ratio, share, seed of a cell and whether it is a control: from its audits, its ledger, or its overrides."""
    audits = cell.run.audits if cell.run else []
    ledger = cell.run.ledger if cell.run else None
    if audits:
        subject = audits[0].subject
        return {
            "is_control": subject.control_of is not None,
            "ratio": subject.ratio,
            "share": subject.share,
            "seed": subject.seed,
        }
    ratio = ledger.requested.ratio if ledger else _number(cell.overrides.get("mix.ratio"))
    seed = _number(cell.overrides.get("seed"))
    return {
        "is_control": ledger.control if ledger else cell.name.startswith("control"),
        "ratio": ratio,
        "share": None if ratio is None else 1 / (1 + ratio),
        "seed": None if seed is None else int(seed),
    }


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None
