"""An audit on disk: written whole, found again, never repeated."""

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from audit.cache import base_identity, digest, weights_sha256
from audit.config import AuditConfig
from audit.difference import Difference
from audit.measure import SCHEMA, config_sha256, dumps
from audit.report import write_checkpoint_report
from audit.subject import Subject
from organisms.load import load
from storage.atomic import write_bytes, write_json, write_text


def audit_identity(subject: Subject, config: AuditConfig, dtype: str) -> dict[str, str]:
    """What an audit's numbers depend on; two audits with the same identity need not both be made."""
    organism = subject.organism
    ground_truth = None
    if organism is not None:
        behaviour = organism.behaviour.read_text(encoding="utf-8") if organism.behaviour else None
        decoys = {name: load(name).sha256 for name in organism.decoys}
        ground_truth = [organism.name, organism.sha256, organism.control_of, behaviour, decoys]
    key = {
        "base": base_identity(subject.base, subject.base_revision),
        "dtype": dtype,
        "ground_truth": ground_truth,
        "config": config_sha256(config),
    }
    return {"weights_sha256": weights_sha256(subject.finetuned), "audit_sha256": digest(key)}


def is_done(out: Path, identity: dict[str, str]) -> bool:
    """Whether `out` holds a complete audit of this identity."""
    path = out / "audit.json"
    if not path.exists():
        return False
    done = json.loads(path.read_text(encoding="utf-8"))
    return bool(done["status"] == "complete" and done["identity"] == identity)


def write_audit(
    out: Path,
    result: dict[str, Any],
    difference: Difference,
    samples: list[dict[str, Any]],
    identity: dict[str, str],
) -> Path:
    """Writes vectors and samples, then audit.json, then the report; audit.json says that the others are there.

    Returns:
        The report.
    """
    result["identity"] = identity
    result["subject"]["weights_sha256"] = identity["weights_sha256"]
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
