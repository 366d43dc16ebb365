"""An audit on disk: written whole, found again, never repeated."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from audit.config import AuditConfig
from audit.difference import Difference
from audit.measure import SCHEMA, config_sha256, dumps
from audit.report import write_checkpoint_report
from audit.subject import Subject
from storage.atomic import write_bytes, write_json, write_text


def is_done(out: Path, config: AuditConfig, weights: str) -> bool:
    """Whether `out` holds a complete audit of these weights with these settings."""
    path = out / "audit.json"
    if not path.exists():
        return False
    done = json.loads(path.read_text(encoding="utf-8"))
    return bool(
        done["status"] == "complete"
        and done["schema"] == SCHEMA
        and done["config_sha256"] == config_sha256(config)
        and done["subject"]["weights_sha256"] == weights
    )


def write_audit(out: Path, result: dict[str, Any], difference: Difference, samples: list[dict[str, Any]]) -> Path:
    """Writes vectors and samples, then audit.json, then the report; audit.json says that the others are there.

    Returns:
        The report.
    """
    out.mkdir(parents=True, exist_ok=True)
    vectors = {
        "delta": difference.delta,
        "base_mean": difference.base_mean,
        "finetuned_mean": difference.finetuned_mean,
        "standard_error": difference.standard_error(),
    }
    notes = {"layer": str(difference.layer), "documents": str(difference.documents), "schema": str(SCHEMA)}
    write_bytes(out / "differences.safetensors", save({k: v.contiguous() for k, v in vectors.items()}, metadata=notes))
    write_text(out / "samples.jsonl", dumps(samples))
    write_json(out / "audit.json", result)
    return write_checkpoint_report(out)


def write_failure(out: Path, subject: Subject, config: AuditConfig, error: Exception) -> Path:
    """Writes the audit of a checkpoint that could not be audited: a report in red instead of none."""
    out.mkdir(parents=True, exist_ok=True)
    message = f"{type(error).__name__}: {error}"
    write_json(
        out / "audit.json",
        {
            "schema": SCHEMA,
            "status": "failed",
            "error": message,
            "subject": subject.describe(),
            "config_sha256": config_sha256(config),
        },
    )
    return write_checkpoint_report(out)
