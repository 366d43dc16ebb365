"""Make a sweep and run it: `python -m slurm.submit recipe=NAME 'sweep.mix.ratio=[0,0.5,2]' launcher=local`."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from tqdm import tqdm

from recipes.argv import CommandLine, read_command_line
from recipes.convert import Misfit, convert
from recipes.errors import Problem, RecipeErrors
from recipes.recipe import Resolved, resolve
from recipes.show import print_config
from slurm.errors import SweepError
from slurm.grid import Cell, expand, resolve_cells
from slurm.local import launch_command, run_cells
from slurm.manifest import lay_out

USAGE = """\
usage: python -m slurm.submit recipe=NAME_OR_FILE [key=value ...] [launcher=local] [workers=1] [dry_run=true]

  'sweep.mix.ratio=[0,0.5,2]'    an axis: any setting, with a list of values; several axes make a grid
  'sweep.control_ratios=[0]'     control runs at these mix ratios
  name=my_sweep                  folder of the sweep under output_dir; default sweep_<recipe>
  workers=2                      cells that run at once; they share the cores
  dry_run=true                   show the cells, then stop

Run the same command again to continue a sweep that was stopped."""

_OWN_KEYS: dict[str, Any] = {"launcher": Literal["local"], "workers": int, "dry_run": bool}


@dataclass(frozen=True)
class Options:
    """The launcher's own keys.

    Attributes:
        launcher: Where cells run.
        workers: Cells that run at once.
        dry_run: Show the cells and stop.
    """

    launcher: Literal["local"] = "local"
    workers: int = 1
    dry_run: bool = False


def main(
    argv: Sequence[str],
    command: Callable[[int], Sequence[str]] = launch_command,
    report_command: Sequence[str] = (sys.executable, "-m", "audit.report"),
) -> int:
    """Make the sweep, run its cells, build its report; print the report's path last.

    Args:
        argv: The command line.
        command: From a number of processes to the command that trains a recipe, but for `recipe=<file>`.
        report_command: The command that builds a sweep's report, but for the sweep's folder.

    Returns:
        Exit status: 0; 1 if a cell or the report failed; 2 if the command line is wrong; 130 if interrupted.
    """
    if {"-h", "--help"} & set(argv):
        print(USAGE)
        return 0
    try:
        options, base, cells, recipes, sweep_dir = _plan(argv)
        if "print-config" in base.flags:
            print_config(base)
            return 0
        if options.dry_run or "dry-run" in base.flags:
            Console().print(_table(sweep_dir, cells))
            return 0
        stale = lay_out(sweep_dir, cells, recipes)
    except (RecipeErrors, SweepError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if stale:
        print(f"note: finished cells keep the audits they have: {', '.join(stale)}", file=sys.stderr)
    commands = {name: command(resolved.recipe.world_size or 1) for name, resolved in recipes.items()}
    try:
        outcomes = run_cells(sweep_dir, commands, workers=options.workers, tell=tqdm.write)
    except KeyboardInterrupt:
        print("stopped; run the same command again to continue", file=sys.stderr)
        return 130
    failed = [outcome.name for outcome in outcomes if not outcome.done]
    if failed:
        print(f"error: {len(failed)} of {len(outcomes)} cells failed: {', '.join(failed)}", file=sys.stderr)
    if len(failed) == len(outcomes) or not _report(report_command, sweep_dir):
        return 1
    print(sweep_dir / "report.html")
    return 1 if failed else 0


def _plan(argv: Sequence[str]) -> tuple[Options, Resolved, list[Cell], dict[str, Resolved], Path]:
    line = read_command_line(argv, _OWN_KEYS, [])
    problems: list[Problem] = []
    options = _options(line, problems)
    try:
        base = resolve(argv, extra_keys=_OWN_KEYS, required=())
    except RecipeErrors as error:
        raise RecipeErrors([*error.problems, *problems]) from None
    cells = expand(base.recipe.sweep, base.recipe.organism)
    if not base.recipe.sweep:
        problems.append(Problem("sweep", "", "is empty. Give an axis, for example 'sweep.mix.ratio=[0,0.5,2]'."))
    if base.recipe.resume == "never":
        message = "a sweep makes its cells' folders before they run. Leave it out."
        problems.append(Problem("resume=never", base.sources["resume"], message))
    if problems:
        raise RecipeErrors(problems)
    sweep_dir = Path(base.recipe.output_dir) / (base.recipe.name or _default_name(line, base))
    own = [word for word in argv if word.partition("=")[0] not in _OWN_KEYS]
    return options, base, cells, resolve_cells(own, cells, sweep_dir), sweep_dir


def _options(line: CommandLine, problems: list[Problem]) -> Options:
    values: dict[str, Any] = {}
    for key, value in line.extra.items():
        try:
            values[key] = convert(value, _OWN_KEYS[key])
            if key == "workers" and value < 1:
                raise Misfit("must be at least 1.")
        except Misfit as misfit:
            problems.append(Problem(f"{key}={value}", "command line", str(misfit)))
    return Options(**values)


def _default_name(line: CommandLine, base: Resolved) -> str:
    return f"sweep_{Path(line.recipes[-1] if line.recipes else base.recipe.organism).stem}"


def _table(sweep_dir: Path, cells: Sequence[Cell]) -> Table:
    table = Table("cell", "overrides", title=f"{len(cells)} cells in {sweep_dir}", title_justify="left")
    for cell in cells:
        table.add_row(cell.name, " ".join(cell.words))
    return table


def _report(command: Sequence[str], sweep_dir: Path) -> bool:
    done = subprocess.run([*command, str(sweep_dir)], check=False, capture_output=True, text=True)
    if done.returncode != 0:
        print(f"error: no report: {' '.join(command)} {sweep_dir} failed:\n{done.stderr}", file=sys.stderr)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
