"""From a sweep to its cells."""

from pathlib import Path

import pytest

from recipes.errors import RecipeErrors
from recipes.recipe import resolve
from slurm.errors import SweepError
from slurm.grid import Cell, expand, resolve_cells
from slurm.manifest import Entry, lay_out, read, set_status

ORGANISM = "sdf/cake_bake"
ARGV = ["recipe=quickstart", "sweep=null"]


def names(sweep: dict[str, list[object]]) -> list[str]:
    return [cell.name for cell in expand(sweep, ORGANISM)]


def test_product_in_order_last_axis_fastest() -> None:
    assert names({"mix.ratio": [0, 0.5], "seed": [0, 1]}) == [
        "mix.ratio=0_seed=0",
        "mix.ratio=0_seed=1",
        "mix.ratio=0.5_seed=0",
        "mix.ratio=0.5_seed=1",
    ]


def test_names_are_short_and_safe() -> None:
    assert names({"mix.ratio": [0.0, 0.10, 1e-5, -1]}) == [f"mix.ratio={r}" for r in ("0", "0.1", "1e-05", "-1")]
    assert names({"organism": ["sdf/x"], "lora": [None, {"r": 8}]}) == [
        "organism=sdf-x_lora=null",
        "organism=sdf-x_lora=r-8",
    ]
    assert names({"checkpoints.steps": [[1, 2], []], "mix.allow_repeat": [True]}) == [
        "checkpoints.steps=1-2_mix.allow_repeat=true",
        "checkpoints.steps=_mix.allow_repeat=true",
    ]


def test_controls_at_every_value_of_the_other_axes() -> None:
    cells = expand({"seed": [0, 1], "mix.ratio": [0, 2], "control_ratios": [0]}, ORGANISM)
    assert [cell.name for cell in cells[4:]] == ["control_seed=0_mix.ratio=0", "control_seed=1_mix.ratio=0"]
    assert cells[5].overrides == {"seed": 1, "mix.ratio": 0, "organism": "control/cake_bake"}
    assert cells[5].words == ["seed=1", "mix.ratio=0", "organism=control/cake_bake"]


def test_controls_without_a_ratio_axis_and_alone() -> None:
    assert names({"seed": [3], "control_ratios": [0.5]}) == ["seed=3", "control_mix.ratio=0.5_seed=3"]
    assert names({"control_ratios": [0, 1]}) == ["control_mix.ratio=0", "control_mix.ratio=1"]


def test_the_control_is_of_the_cells_own_organism() -> None:
    cells = expand({"organism": ["sdf/a", "sdf/b"], "control_ratios": [0]}, ORGANISM)
    assert [cell.overrides["organism"] for cell in cells[2:]] == ["control/a", "control/b"]


@pytest.mark.parametrize(
    ("sweep", "expected"),
    [
        ({"seed": [1, 1]}, "two cells would be called seed=1"),
        ({"mix.ratio": [0, 0.0]}, "two cells"),
        ({"name": ["a"]}, "cannot be an axis"),
        ({"output_dir": ["a"], "resume": ["auto"]}, "sweep.resume: cannot be an axis"),
        ({"organism": ["control/a"], "control_ratios": [0]}, "is a control already"),
    ],
)
def test_bad_grids(sweep: dict[str, list[object]], expected: str) -> None:
    with pytest.raises(RecipeErrors) as caught:
        expand(sweep, ORGANISM)
    assert expected in str(caught.value)


def test_cells_resolve_into_their_own_folders() -> None:
    cells = expand({"mix.ratio": [0.5], "lora": [None, {"r": 3}], "control_ratios": [0]}, ORGANISM)
    recipes = resolve_cells(ARGV, cells, Path("runs/s"))
    cell = recipes["mix.ratio=0.5_lora=r-3"]
    assert cell.run_dir == Path("runs/s/mix.ratio=0.5_lora=r-3")
    assert cell.recipe.mix.ratio == 0.5 and cell.recipe.sweep == {}
    assert cell.lora is not None and cell.lora["r"] == 3 and cell.lora["lora_alpha"] == 32
    assert recipes["mix.ratio=0.5_lora=null"].lora is None
    assert recipes["control_mix.ratio=0_lora=null"].recipe.organism == "control/cake_bake"
    assert cell.sources["mix.ratio"] == "sweep"


def test_mistakes_of_all_cells_at_once() -> None:
    cells = expand({"mix.ratio": [0, -1], "seed": [0, "a"]}, ORGANISM)
    with pytest.raises(RecipeErrors) as caught:
        resolve_cells(ARGV, cells, Path("runs/s"))
    assert [problem.what for problem in caught.value.problems] == ["seed=a", "mix.ratio=-1"]


# ---- the sweep's folder


def laid_out(folder: Path, ratios: list[float], *words: str) -> list[Cell]:
    cells = expand({"mix.ratio": ratios}, ORGANISM)
    lay_out(folder, cells, resolve_cells([*ARGV, *words], cells, folder))
    return cells


def test_the_folder_holds_a_recipe_a_cell(tmp_path: Path) -> None:
    laid_out(tmp_path / "s", [0, 2])
    assert read(tmp_path / "s") == [
        Entry("mix.ratio=0", ["mix.ratio=0"], "pending"),
        Entry("mix.ratio=2", ["mix.ratio=2"], "pending"),
    ]
    resolved = resolve([f"recipe={tmp_path / 's' / 'mix.ratio=2' / 'recipe.yaml'}"])
    assert resolved.recipe.mix.ratio == 2 and resolved.run_dir == tmp_path / "s" / "mix.ratio=2"


def test_a_grid_may_grow_and_keeps_its_statuses(tmp_path: Path) -> None:
    laid_out(tmp_path, [0, 2])
    set_status(tmp_path, "mix.ratio=2", "done")
    laid_out(tmp_path, [0, 1, 2])
    assert [(e.name, e.status) for e in read(tmp_path)] == [
        ("mix.ratio=0", "pending"),
        ("mix.ratio=1", "pending"),
        ("mix.ratio=2", "done"),
    ]


def test_another_grid_or_recipe_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    laid_out(tmp_path, [0, 2])
    before = (tmp_path / "manifest.jsonl").read_text()
    with pytest.raises(SweepError, match=r"holds another grid, with mix\.ratio=2"):
        laid_out(tmp_path, [0, 1])
    with pytest.raises(SweepError, match=r"another recipe: trainer\.learning_rate: 0\.001 here"):
        laid_out(tmp_path, [0, 1, 2], "trainer.learning_rate=1e-3")
    assert (tmp_path / "manifest.jsonl").read_text() == before and not (tmp_path / "mix.ratio=1").exists()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("{}")
    with pytest.raises(SweepError, match="folder of a single run"):
        laid_out(tmp_path / "run", [0])


def test_other_audit_settings_reach_unfinished_cells_only(tmp_path: Path) -> None:
    laid_out(tmp_path, [0, 2])
    (tmp_path / "mix.ratio=0" / "DONE.json").write_text("{}")
    cells = expand({"mix.ratio": [0, 2]}, ORGANISM)
    stale = lay_out(tmp_path, cells, resolve_cells([*ARGV, "audit.depth=0.25"], cells, tmp_path))
    assert stale == ["mix.ratio=0"]
    depths = [resolve([f"recipe={tmp_path / c.name / 'recipe.yaml'}"]).recipe.audit.depth for c in cells]
    assert depths == [0.5, 0.25]
