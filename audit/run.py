"""Audits a checkpoint: `python -m audit.run checkpoint=runs/x/checkpoint-40` or `base=... finetuned=... [organism=...]`.

Run twice, it does nothing the second time. Settings are the run's own, or the defaults; `audit.key=value` changes them.
"""

import json
import sys
from pathlib import Path

from recipes.recipe import RecipeErrors, Resolved, resolve

KEYS = ("checkpoint", "base", "finetuned", "out")


def main(argv: list[str]) -> int:
    """Entry point. Returns the exit code: 2 for bad input."""
    try:
        resolved = resolve(_with_run_recipe(argv), extra_keys=KEYS, required=())
    except RecipeErrors as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    given = resolved.extra.keys() & set(KEYS)
    if not ("checkpoint" in given) ^ ({"base", "finetuned"} <= given):
        print("error: give checkpoint=FOLDER, or base=MODEL and finetuned=FOLDER", file=sys.stderr)
        return 2
    from audit.errors import AuditError
    from data_mix.errors import MixError
    from organisms.errors import OrganismError
    from storage.errors import StorageError

    try:
        report = audit_one(resolved)
    except (AuditError, MixError, OrganismError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(report)
    return 0


def audit_one(resolved: Resolved) -> Path:
    """Audits what the command line names, unless it has been done.

    Returns:
        The report.

    Raises:
        AuditError: The checkpoint is unsealed or tampered with, or is no finetune of the base.
    """
    from omegaconf import MISSING

    from audit.errors import AuditError
    from audit.measure import measure
    from audit.pair import load_pair
    from audit.store import audit_identity, is_done, write_audit
    from audit.subject import Subject, of_checkpoint
    from organisms.load import load

    recipe, extra = resolved.recipe, resolved.extra
    finetuned = Path(str(extra.get("checkpoint", extra.get("finetuned"))))
    if not finetuned.is_dir():
        raise AuditError(f"{finetuned}: no such folder")
    base = str(extra.get("base", recipe.base_model))
    organism = None if recipe.organism == MISSING else load(recipe.organism)
    if (finetuned / "SEALED.json").exists() or "checkpoint" in extra:
        subject = of_checkpoint(finetuned, base, recipe.base_revision, organism, recipe.seed)
    else:
        kind = "lora" if (finetuned / "adapter_config.json").exists() else "full"
        subject = Subject(base, recipe.base_revision, finetuned, kind, organism)
    out = Path(str(extra.get("out", finetuned / "audit")))
    identity = audit_identity(subject, recipe.audit, recipe.dtype)
    if is_done(out, identity):
        print(f"already audited with these settings: {out}", file=sys.stderr)
        return out / "report.html"
    pair = load_pair(base, recipe.base_revision, finetuned, recipe.dtype)
    measured = measure(pair, subject, recipe.audit)
    assert measured is not None
    return write_audit(out, *measured, identity)


def _with_run_recipe(argv: list[str]) -> list[str]:
    """Puts the recipe of the checkpoint's run first, where there is one."""
    for word in argv:
        key, _, value = word.partition("=")
        if key in ("checkpoint", "finetuned") and (Path(value).parent / "recipe.yaml").exists():
            return [f"recipe={Path(value).parent / 'recipe.yaml'}", *argv]
    return argv


def status(checkpoint: Path) -> str | None:
    """`complete`, `failed`, or none if there is no audit yet."""
    path = checkpoint / "audit" / "audit.json"
    if not path.exists():
        return None
    value = json.loads(path.read_text(encoding="utf-8"))["status"]
    assert isinstance(value, str)
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
