"""From a command line to a checked recipe: `resolve`. Every mistake is reported at once.

Neither torch nor any library that loads it is imported: a wrong key must be told in a second, on every rank.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

from recipes.argv import read_command_line
from recipes.check import check_key, check_together
from recipes.convert import Misfit, convert, reads_as_text
from recipes.errors import Problem, RecipeErrors
from recipes.layers import COMMAND_LINE, SOURCES, Setting, flatten, read_recipe
from recipes.merge import interpolate, merge
from recipes.schema import OPEN_BLOCKS, Recipe, defaults, keys, nest
from recipes.yaml_text import dump, inline
from storage.atomic import write_text

__all__ = ["Recipe", "RecipeErrors", "Resolved", "load_saved", "resolve", "save"]

DEFAULT = "default"

_NOT_IDENTITY = ("resume", "output_dir", "name", "world_size", "audit.", "sweep")
"""What may differ between a run and its continuation: none of it changes the weights."""


@dataclass(frozen=True)
class Resolved:
    """A recipe with nothing left open.

    Attributes:
        recipe: Typed, for the code.
        config: The same as OmegaConf, read-only.
        values: The same as dotted key -> value; of `trainer`, `lora` and `sweep` only what is set.
        sources: Dotted key -> the recipe file it comes from, `command line` or `default`.
        flags: `print-config`, `dry-run`, as given on the command line.
        extra: Values of the entry point's own keys.
    """

    recipe: Recipe
    config: DictConfig
    values: Mapping[str, Any]
    sources: Mapping[str, str]
    flags: frozenset[str] = frozenset()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trainer(self) -> dict[str, Any]:
        """The fields of SFTConfig that are set."""
        return self.recipe.trainer

    @property
    def lora(self) -> dict[str, Any] | None:
        """The fields of LoraConfig that are set; None for a full finetune."""
        return self.recipe.lora

    @property
    def run_name(self) -> str:
        """`name`, or `<organism>_<lora|full>_ratio<r>_seed<s>`."""
        recipe = self.recipe
        if recipe.name is not None:
            return recipe.name
        organism = Path(recipe.organism)
        control = "control_" if organism.parent.name == "control" else ""
        method = "full" if recipe.lora is None else "lora"
        return f"{control}{organism.name}_{method}_ratio{recipe.mix.ratio:g}_seed{recipe.seed}"

    @property
    def run_dir(self) -> Path:
        """Folder of the run."""
        return Path(self.recipe.output_dir) / self.run_name

    @property
    def identity(self) -> str:
        """SHA-256, in hex, of everything that decides the weights of the run.

        `resume`, `output_dir`, `name`, `world_size`, `audit` and `sweep` do not.
        """
        text = json.dumps(_identity_values(self), sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def differences(self, other: "Resolved") -> list[str]:
        """What makes the identities differ, a text for each key: `mix.ratio: 0.5 here, 2 there`.

        Args:
            other: The recipe that was found elsewhere.
        """
        here = {key: inline(value) for key, value in _identity_values(self).items()}
        there = {key: inline(value) for key, value in _identity_values(other).items()}
        changed = [key for key in {**here, **there} if here.get(key) != there.get(key)]
        return [f"{key}: {here.get(key, 'not set')} here, {there.get(key, 'not set')} there" for key in changed]


def resolve(
    argv: Sequence[str],
    *,
    extra_keys: Collection[str] = (),
    required: Collection[str] = ("base_model", "organism"),
    overrides: Mapping[str, Any] | None = None,
    overrides_source: str = "sweep",
) -> Resolved:
    """Read a command line and the recipes it names.

    Args:
        argv: `recipe=...`, `dotted.key=value`, `--print-config`, `--dry-run`; without the program's name.
        extra_keys: Keys of the entry point that no recipe has; their values come back in `extra`.
        required: Keys that must have a value.
        overrides: Dotted key -> value, stronger than `argv`.
        overrides_source: What messages call `overrides`.

    Returns:
        The resolved recipe. A key that is neither required nor set holds `omegaconf.MISSING`.

    Raises:
        RecipeErrors: Anything is wrong; it holds all of it.
    """
    problems: list[Problem] = []
    line = read_command_line(argv, extra_keys, problems)
    settings = [setting for name in line.recipes for setting in read_recipe(name, COMMAND_LINE, problems)]
    all_read = not any(problem.what.startswith("recipe=") for problem in problems)
    settings += line.settings
    for key, value in (overrides or {}).items():
        settings += flatten(key, value, overrides_source, Path.cwd(), problems)
    merged = interpolate(merge(settings, extra_keys, problems), problems)

    values, sources = dict(defaults()), dict.fromkeys(defaults(), DEFAULT)
    for key, setting in merged.items():
        value = _checked(setting, problems)
        if value is not _WRONG:
            values[key] = value
            sources[key] = setting.source
    written = {key: setting.written for key, setting in merged.items()}
    for key, message in check_together(values):
        problems.append(Problem(written.get(key, f"{key}={values[key]}"), sources[key], message))
    for key in required:
        if values[key] == MISSING and key not in merged and all_read:
            problems.append(Problem(key, "", f"is missing. Write {key}=..., or start with recipe=quickstart."))
    if problems:
        raise RecipeErrors(problems)
    return _build(values, sources, frozenset(line.flags), line.extra)


def save(resolved: Resolved, path: Path) -> None:
    """Write the recipe, with the source of every value, so that `recipe=<path>` gives it back.

    Args:
        resolved: What to write.
        path: A file; it appears whole or not at all.
    """
    content = OmegaConf.to_container(resolved.config)
    assert isinstance(content, dict)
    write_text(path, dump({**content, SOURCES: dict(resolved.sources)}))


def load_saved(path: Path) -> Resolved:
    """Read what `save` wrote.

    Args:
        path: The file.

    Raises:
        RecipeErrors: There is no such file, or this version of the workbench cannot read it.
    """
    return resolve([f"recipe={path}"], required=())


_WRONG = object()


def _checked(setting: Setting, problems: list[Problem]) -> Any:
    """The setting's value with the type of its key, or _WRONG."""
    head = setting.key.split(".")[0]
    if setting.key in OPEN_BLOCKS or setting.key == "sweep":
        return setting.value if setting.value is None or setting.key != "sweep" else {}
    if head == "sweep":
        if isinstance(setting.value, list) and setting.value:
            return setting.value
        message = "must be a list with at least one value, for example [0,0.5,2]."
        problems.append(Problem(setting.written, setting.source, message))
        return _WRONG
    annotation = keys()[setting.key].annotation
    raw = setting.text is not None and not isinstance(setting.value, str) and reads_as_text(annotation)
    value = setting.text if raw and setting.value is not None else setting.value
    try:
        value = convert(value, annotation)
        check_key(setting.key, value)
    except Misfit as misfit:
        problems.append(Problem(setting.written, setting.source, str(misfit)))
        return _WRONG
    return value


def _build(
    values: dict[str, Any], sources: dict[str, str], flags: frozenset[str], extra: Mapping[str, Any]
) -> Resolved:
    tree = nest(values)
    tree["trainer"] = tree.get("trainer") or {}
    tree["sweep"] = tree.get("sweep") or {}
    config = OmegaConf.merge(OmegaConf.structured(Recipe), tree)
    assert isinstance(config, DictConfig)
    OmegaConf.set_readonly(config, True)
    blocks = {name: OmegaConf.to_object(config[name]) for name in ("mix", "checkpoints", "audit")}
    recipe = Recipe(**{**tree, **blocks})
    return Resolved(recipe, config, values, sources, flags, extra)


def _identity_values(resolved: Resolved) -> dict[str, Any]:
    kept = {key: value for key, value in resolved.values.items() if not key.startswith(_NOT_IDENTITY)}
    if resolved.recipe.lora is None:
        kept["lora"] = None
    return kept
