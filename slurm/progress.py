"""How far a run is, from the files it writes."""

import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    Attributes:
        fraction: Of its optimizer steps, 0 to 1; 0 before the mix is known.
        text: For a progress bar.
    """

    fraction: float
    text: str


def progress(run_dir: Path) -> Progress:
    """Read `mix.json` (how many steps) and the last line of `log.jsonl` (which step).

    Args:
        run_dir: Folder of the run.
    """
    mix, log = run_dir / "mix.json", run_dir / "log.jsonl"
    if not mix.is_file():
        return Progress(0.0, "starting")
    steps = int(json.loads(mix.read_text(encoding="utf-8"))["steps"])
    line = _last_line(log) if log.is_file() else None
    if line is None:
        return Progress(0.0, f"0/{steps}")
    last = json.loads(line)
    return Progress(last["step"] / steps, f"{last['step']}/{steps} loss {last['loss']:.3f}")


def _last_line(path: Path) -> bytes | None:
    """The last line that is complete; None if there is none."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(0, end - 65536))
        complete = file.read().split(b"\n")[:-1]
    return complete[-1] if complete else None
