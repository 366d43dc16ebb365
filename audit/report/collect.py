"""What lies on disk under a checkpoint, a run or a sweep, and in which state it is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audit.errors import AuditError
from audit.report.parse import build, read_json, read_json_lines
from audit.report.schema import SCHEMA, Audit, FailedAudit, Ledger, LogLine, ManifestLine, Sample

State = Literal["complete", "failed", "not audited", "unsealed"]
Kind = Literal["checkpoint", "run", "sweep"]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's folder.

    Attributes:
        folder: checkpoint-<step>.
        step: From the folder's name.
        state: `complete` and `failed` speak of its audit; `unsealed` has no valid SEALED.json, so none counts.
        audit: If complete.
        error: If failed, or why it is not sealed.
    """

    folder: Path
    step: int
    state: State
    audit: Audit | None = None
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """A run's folder."""

    folder: Path
    checkpoints: tuple[Checkpoint, ...]
    log: tuple[LogLine, ...]
    ledger: Ledger | None

    @property
    def audits(self) -> list[Audit]:
        """The complete ones, by step."""
        return [checkpoint.audit for checkpoint in self.checkpoints if checkpoint.audit is not None]


@dataclass(frozen=True)
class Cell:
    """A line of the manifest and the run it names, if that has begun."""

    name: str
    overrides: dict[str, str]
    status: str
    run: Run | None


@dataclass(frozen=True)
class Sweep:
    """A sweep's folder."""

    folder: Path
    cells: tuple[Cell, ...]


def kind_of(path: Path) -> tuple[Kind, Path]:
    """What a path is, and the folder that its report is written in.

    Args:
        path: A sweep, a run, a checkpoint, an audit folder or an audit.json.

    Raises:
        AuditError: None of them.
    """
    if path.name == "audit.json" and path.is_file():
        return "checkpoint", path.parent
    if (path / "audit.json").is_file():
        return "checkpoint", path
    if (path / "audit" / "audit.json").is_file():
        return "checkpoint", path / "audit"
    if (path / "manifest.jsonl").is_file():
        return "sweep", path
    if is_run(path):
        return "run", path
    if path.is_dir() and any(is_run(folder) for folder in path.iterdir()):
        return "sweep", path
    if not path.exists():
        raise AuditError(f"{path} does not exist")
    raise AuditError(
        f"{path} is not something to report on: it holds no audit.json, checkpoint, recipe.yaml or manifest.jsonl. "
        f"Give a sweep, a run, a checkpoint or an audit folder; audit a checkpoint first with "
        f"`python -m audit.run checkpoint=...`"
    )


def is_run(folder: Path) -> bool:
    """Whether a folder is a run's."""
    return folder.is_dir() and ((folder / "recipe.yaml").is_file() or any(folder.glob("checkpoint-*/")))


def load_audit(folder: Path) -> Audit | FailedAudit:
    """The audit.json of an audit's folder.

    Raises:
        AuditError: It is missing, of another version, or incomplete.
    """
    path = folder / "audit.json"
    data = read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise AuditError(f"{path} is not an audit of schema {SCHEMA}. Audit the checkpoint again with this version")
    if data.get("status") == "failed":
        return build(FailedAudit, data, path)
    if data.get("status") != "complete":
        raise AuditError(f"{path}: status should be 'complete' or 'failed', not {data.get('status')!r}")
    return build(Audit, data, path)


def load_samples(folder: Path) -> list[Sample]:
    """The samples.jsonl of an audit's folder; empty if steering was off."""
    path = folder / "samples.jsonl"
    if not path.is_file():
        return []
    return [build(Sample, line, path, f"line {number}") for number, line in enumerate(read_json_lines(path), 1)]


def load_checkpoint(folder: Path) -> Checkpoint:
    """A checkpoint and its audit, if that counts.

    Raises:
        AuditError: The audit.json cannot be read.
    """
    step = int(folder.name.removeprefix("checkpoint-"))
    fault = seal_fault(folder, step)
    if fault is not None:
        return Checkpoint(folder, step, "unsealed", error=fault)
    if not (folder / "audit" / "audit.json").is_file():
        return Checkpoint(folder, step, "not audited")
    audit = load_audit(folder / "audit")
    if isinstance(audit, FailedAudit):
        return Checkpoint(folder, step, "failed", error=audit.error)
    return Checkpoint(folder, step, "complete", audit=audit)


def seal_fault(folder: Path, step: int) -> str | None:
    """What is wrong with a checkpoint's seal, or None.

    The files' hashes were compared when the checkpoint was audited; here only their presence is.
    """
    path = folder / "SEALED.json"
    if not path.is_file():
        return "no SEALED.json: saving it was interrupted"
    try:
        seal = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return "SEALED.json is not JSON"
    if not isinstance(seal, dict) or seal.get("schema") != 1 or not isinstance(seal.get("sha256"), dict):
        return "SEALED.json is of another version"
    if seal.get("step") != step:
        return f"SEALED.json belongs to step {seal.get('step')}"
    missing = sorted(name for name in seal["sha256"] if not (folder / name).is_file())
    return f"{missing[0]} is missing" if missing else None


def load_run(folder: Path) -> Run:
    """A run with all its checkpoints, by step.

    Raises:
        AuditError: A file cannot be read.
    """
    named = (
        path for path in folder.glob("checkpoint-*") if path.is_dir() and path.name[len("checkpoint-") :].isdigit()
    )
    checkpoints = tuple(sorted((load_checkpoint(path) for path in named), key=lambda checkpoint: checkpoint.step))
    log_path, mix_path = folder / "log.jsonl", folder / "mix.json"
    lines = read_json_lines(log_path) if log_path.is_file() else []
    log = tuple(build(LogLine, line, log_path, f"line {number}") for number, line in enumerate(lines, 1))
    ledger = build(Ledger, read_json(mix_path), mix_path) if mix_path.is_file() else None
    return Run(folder, checkpoints, log, ledger)


def load_sweep(folder: Path) -> Sweep:
    """A sweep with a cell for each line of its manifest; without a manifest, for each run in it.

    Raises:
        AuditError: A file cannot be read.
    """
    path = folder / "manifest.jsonl"
    if path.is_file():
        lines = [
            build(ManifestLine, line, path, f"line {number}") for number, line in enumerate(read_json_lines(path), 1)
        ]
    else:
        names = sorted(run.name for run in folder.iterdir() if is_run(run))
        lines = [ManifestLine(name, (), "unknown") for name in names]
    cells = []
    for line in lines:
        overrides = dict(pair.partition("=")[::2] for pair in line.overrides)
        run = load_run(folder / line.name) if is_run(folder / line.name) else None
        cells.append(Cell(line.name, overrides, line.status, run))
    return Sweep(folder, tuple(cells))
