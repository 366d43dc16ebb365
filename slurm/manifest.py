"""The sweep's folder: `manifest.jsonl`, one line a cell, and a folder with `recipe.yaml` for each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from recipes.recipe import Resolved, load_saved, save
from slurm.errors import SweepError
from slurm.grid import Cell
from storage.atomic import write_text
from storage.lock import folder_lock

Status = Literal["pending", "running", "done", "failed"]


@dataclass(frozen=True)
class Entry:
    """One line of the manifest.

    Attributes:
        name: The cell's name, which is its folder's.
        overrides: What makes it this cell, as it would stand on the command line: `mix.ratio=0.5`.
        status: As the launcher last saw it. Whether a cell is done is decided by its `DONE.json`.
    """

    name: str
    overrides: Sequence[str]
    status: Status


def is_done(cell_dir: Path) -> bool:
    """Whether the run has come to its end: training writes `DONE.json` as the last thing.

    Args:
        cell_dir: Folder of the run.
    """
    return (cell_dir / "DONE.json").is_file()


def read(sweep_dir: Path) -> list[Entry]:
    """The manifest, empty if there is none.

    Args:
        sweep_dir: Folder of the sweep.
    """
    path = sweep_dir / "manifest.jsonl"
    if not path.is_file():
        return []
    return [Entry(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]


def set_status(sweep_dir: Path, name: str, status: Status) -> None:
    """Change the status of one cell.

    Args:
        sweep_dir: Folder of the sweep.
        name: The cell's name.
        status: Its status.
    """
    with folder_lock(sweep_dir):
        _write(sweep_dir, [replace(e, status=status) if e.name == name else e for e in read(sweep_dir)])


def lay_out(sweep_dir: Path, cells: Sequence[Cell], recipes: Mapping[str, Resolved]) -> list[str]:
    """Make the sweep's folder, or check that it is this sweep's and add the cells that are new.

    Args:
        sweep_dir: Folder of the sweep.
        cells: All cells.
        recipes: Cell name -> its recipe.

    Returns:
        Names of finished cells that were audited with other settings than these recipes have.

    Raises:
        SweepError: The folder holds something else; nothing was changed.
    """
    with folder_lock(sweep_dir):
        before = read(sweep_dir)
        _refuse_another_sweep(sweep_dir, before, recipes)
        stale: list[str] = []
        for name, resolved in recipes.items():
            folder = sweep_dir / name
            folder.mkdir(parents=True, exist_ok=True)
            if not is_done(folder):
                save(resolved, folder / "recipe.yaml")
            elif load_saved(folder / "recipe.yaml").recipe.audit != resolved.recipe.audit:
                stale.append(name)
        known = {entry.name: entry.status for entry in before}
        _write(sweep_dir, [Entry(c.name, c.words, known.get(c.name, "pending")) for c in cells])
    return stale


def _refuse_another_sweep(sweep_dir: Path, before: Sequence[Entry], recipes: Mapping[str, Resolved]) -> None:
    advice = "Give another name=..., or delete the folder."
    if (sweep_dir / "recipe.yaml").exists():
        raise SweepError(f"{sweep_dir} is the folder of a single run. {advice}")
    gone = [entry.name for entry in before if entry.name not in recipes]
    if gone:
        raise SweepError(
            f"{sweep_dir} holds another grid, with {', '.join(gone)}. A grid may grow, not lose cells. {advice}"
        )
    for name, resolved in recipes.items():
        saved = sweep_dir / name / "recipe.yaml"
        if saved.exists() and (changed := resolved.differences(load_saved(saved))):
            raise SweepError(f"{saved.parent} holds a run of another recipe: {'; '.join(changed)}. {advice}")


def _write(sweep_dir: Path, entries: Sequence[Entry]) -> None:
    lines = (json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
    write_text(sweep_dir / "manifest.jsonl", "".join(lines))
