"""Reports of a checkpoint, a run and a sweep: pure functions of the JSON on disk. Docs: docs/reports.md."""

from pathlib import Path

from audit.report.checkpoint import write_checkpoint_report
from audit.report.collect import kind_of, load_run, load_sweep
from audit.report.run import write_run_report
from audit.report.sweep import write_sweep_report

__all__ = ["write_checkpoint_report", "write_report", "write_run_report", "write_sweep_report"]


def write_report(path: Path) -> Path:
    """Writes the report of whatever `path` is, and of everything below it, so that no link leads nowhere.

    Args:
        path: A sweep, a run, a checkpoint, an audit folder or an audit.json.

    Returns:
        The report.html of `path` itself.

    Raises:
        AuditError: `path` is none of them, or a file does not fit its schema.
    """
    kind, folder = kind_of(path)
    if kind == "checkpoint":
        return write_checkpoint_report(folder)
    runs = [load_run(folder)] if kind == "run" else [cell.run for cell in load_sweep(folder).cells if cell.run]
    for run in runs:
        for checkpoint in run.checkpoints:
            if checkpoint.state in ("complete", "failed"):
                write_checkpoint_report(checkpoint.folder / "audit")
    if kind == "run":
        return write_run_report(folder)
    for run in runs:
        write_run_report(run.folder)
    return write_sweep_report(folder)
