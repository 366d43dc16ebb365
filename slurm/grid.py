"""From the sweep of a recipe to its cells: the product of the axes, and the control runs beside it."""

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.errors import Problem, RecipeErrors
from recipes.recipe import Resolved, resolve
from recipes.schema import CONTROL_RATIOS
from recipes.yaml_text import inline

_RATIO = "mix.ratio"
_NO_AXES = {
    "name": "it names the sweep; every cell gets a name of its own.",
    "output_dir": "the cells of a sweep share its folder.",
    "resume": "it says nothing about the trained model.",
}


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        name: Its folder in the sweep's folder: `mix.ratio=0.5_seed=0`, `control_mix.ratio=0_seed=0`.
        overrides: Dotted key -> value, what makes it this cell.
    """

    name: str
    overrides: Mapping[str, Any]

    @property
    def words(self) -> list[str]:
        """`overrides` as they would stand on the command line."""
        return [f"{key}={inline(value)}" for key, value in self.overrides.items()]


def expand(sweep: Mapping[str, Sequence[Any]], organism: str) -> list[Cell]:
    """The cells of a sweep, the last axis varying fastest, control runs last.

    A control run stands for the same run with ordinary text in the organism's place. It is made for every value of the
    other axes, at each mix ratio in `control_ratios`.

    Args:
        sweep: Dotted key -> values, and `control_ratios`.
        organism: The recipe's organism, where it is no axis.

    Raises:
        RecipeErrors: An axis that makes no sense, or two cells of one name.
    """
    bad_axes = [key for key in _NO_AXES if key in sweep]
    problems = [Problem(f"sweep.{key}", "", f"cannot be an axis: {_NO_AXES[key]}") for key in bad_axes]
    axes = {key: values for key, values in sweep.items() if key != CONTROL_RATIOS}
    cells = [Cell(_name("", point), point) for point in _product(axes)] if axes else []
    if CONTROL_RATIOS in sweep:
        # At the place of the ratio's axis, if there is one, so that the names match.
        control_axes = {_RATIO: sweep[CONTROL_RATIOS], **axes} if _RATIO not in axes else dict(axes)
        control_axes[_RATIO] = sweep[CONTROL_RATIOS]
        for point in _product(control_axes):
            subject = Path(point.get("organism", organism))
            if subject.parent.name == "control":
                problems.append(Problem(f"sweep.{CONTROL_RATIOS}", "", f"{subject} is a control already."))
            control = {**point, "organism": f"control/{subject.name}"}
            cells.append(Cell(_name("control_", point), control))
    names = [cell.name for cell in cells]
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        problems.append(Problem("sweep", "", f"two cells would be called {name}: a value stands there twice."))
    if problems:
        raise RecipeErrors(problems)
    return cells


def resolve_cells(argv: Sequence[str], cells: Sequence[Cell], sweep_dir: Path) -> dict[str, Resolved]:
    """Every cell's recipe, to be run in its folder.

    Args:
        argv: The command line that the sweep was made from, without the launcher's own keys.
        cells: The cells.
        sweep_dir: The sweep's folder.

    Returns:
        Cell name -> recipe.

    Raises:
        RecipeErrors: Any cell is wrong; it holds the mistakes of all of them.
    """
    resolved: dict[str, Resolved] = {}
    problems: list[Problem] = []
    for cell in cells:
        place = {"sweep": None, "output_dir": str(sweep_dir), "name": cell.name}
        try:
            resolved[cell.name] = resolve(argv, overrides={**place, **cell.overrides})
        except RecipeErrors as error:
            problems += error.problems
    if problems:
        raise RecipeErrors(problems)
    return resolved


def _product(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]


def _name(prefix: str, point: Mapping[str, Any]) -> str:
    return prefix + "_".join(f"{key}={_file_name(value)}" for key, value in point.items())


def _file_name(value: Any) -> str:
    """The value in characters that a folder's name may have on any file system."""
    if isinstance(value, int | float):
        return inline(value)
    return re.sub(r"[^A-Za-z0-9.+]+", "-", inline(value)).strip("-")
