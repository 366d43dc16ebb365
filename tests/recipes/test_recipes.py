"""Every recipe that comes with the workbench resolves, and can be shown before it is run."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from organisms.load import spec
from recipes.dry_run import Estimate, table
from recipes.find import HERE, names
from recipes.recipe import resolve
from recipes.schema import blocks
from recipes.validate import validate

FILES = sorted(HERE.rglob("*.yaml"))
RUNNABLE = [name for name in names() if name.split("/")[0] not in blocks()]


def test_no_recipe_is_forgotten() -> None:
    # Change the numbers with the files: a glob that quietly finds less would leave recipes untested.
    assert len(FILES) == 7
    assert len(RUNNABLE) == 4


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(HERE).as_posix())
def test_recipe_is_valid(file: Path) -> None:
    validate(file)
    assert file.read_text().startswith("# "), "a recipe begins with what it is for"


@pytest.mark.parametrize("name", RUNNABLE)
def test_recipe_dry_runs(name: str) -> None:
    resolved = resolve([f"recipe={name}", "mix.ratio=0.5"])
    organism = spec(resolved.recipe.organism)
    estimate = Estimate(1000, 500, 30, 8, 4, [1, 2, 4])
    out = io.StringIO()
    corpus = {"name": "embedded/general", "cached": False}
    Console(file=out, width=140).print(table(resolved, organism, corpus, estimate))
    shown = out.getvalue()
    for expected in (resolved.recipe.base_model, organism["title"], "share 0.667", "1,000 organism + 500", "1, 2, 4"):
        assert expected in shown


@pytest.mark.parametrize("name", RUNNABLE)
def test_recipe_says_how_to_run_it(name: str) -> None:
    head = (HERE / f"{name}.yaml").read_text().split("\n\n")[0]
    assert f"accelerate launch train/sft.py recipe={name}" in head
