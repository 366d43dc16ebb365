"""Recipe files and the command line as one list of settings, weakest first."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recipes.errors import Problem
from recipes.find import find, label, not_found
from recipes.schema import OPEN_BLOCKS, blocks
from recipes.yaml_text import parse

SOURCES = "_sources"
"""Key of a saved recipe that says where each value came from."""

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Setting:
    """One `key = value` and where it was written.

    Attributes:
        key: Dotted key; `lora` itself for null or an empty mapping.
        value: What YAML made of it.
        source: A file, or `command line`.
        text: How it was written on the command line, else None.
    """

    key: str
    value: Any
    source: str
    text: str | None = None

    @property
    def written(self) -> str:
        """`key=value`, for messages."""
        return f"{self.key}={self.text if self.text is not None else self.value}"


def read_recipe(name: str, source: str, problems: list[Problem]) -> list[Setting]:
    """The settings of a recipe and of all it inherits from.

    Args:
        name: Path or name, as after `recipe=`.
        source: Who asks for it.
        problems: What goes wrong is added here.

    Returns:
        Inherited settings first.
    """
    path = find(name, Path.cwd())
    if path is None:
        problems.append(Problem(f"recipe={name}", source, not_found(name)))
        return []
    return _read_file(path, "", (), problems)


def flatten(key: str, value: Any, source: str, folder: Path, problems: list[Problem]) -> list[Setting]:
    """A value, which may be a whole block or a file that holds one, as settings.

    Args:
        key: Dotted key.
        value: What YAML gave.
        source: Where it was written.
        folder: What paths are relative to.
        problems: What goes wrong is added here.
    """
    return _flatten(key, value, source, folder, (), problems)


def _read_file(path: Path, block: str, above: Sequence[Path], problems: list[Problem]) -> list[Setting]:
    """The settings of a file whose keys stand under `block`; `above` are the files that are being read."""
    source = label(path)
    if path in above:
        chain = " -> ".join(label(step) for step in (*above[above.index(path) :], path))
        problems.append(Problem("defaults", source, f"inherits from itself: {chain}."))
        return []
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        problems.append(Problem(source, "", f"{error}."))
        return []
    if content is None:
        content = {}
    if not isinstance(content, dict):
        problems.append(Problem(source, "", "must hold `key: value` lines."))
        return []
    settings: list[Setting] = []
    parents = content.pop("defaults", [])
    for parent in [parents] if isinstance(parents, str) else parents:
        found = find(str(parent), path.parent)
        if found is None:
            problems.append(Problem(f"defaults: {parent}", source, not_found(str(parent))))
        else:
            settings += _read_file(found, block, (*above, path), problems)
    origins = content.pop(SOURCES, {})
    for name, value in content.items():
        key = f"{block}.{name}" if block else str(name)
        settings += _flatten(key, value, source, path.parent, (*above, path), problems)
    return [Setting(s.key, s.value, origins.get(s.key, s.source), s.text) for s in settings] if origins else settings


def _flatten(
    key: str, value: Any, source: str, folder: Path, above: Sequence[Path], problems: list[Problem]
) -> list[Setting]:
    in_sweep = key.split(".")[0] == "sweep"
    if not (key in blocks() or key == "sweep" or (in_sweep and isinstance(value, dict))):
        return [Setting(key, value, source)]
    if isinstance(value, dict):
        inner = [_flatten(f"{key}.{name}", item, source, folder, above, problems) for name, item in value.items()]
        # An empty block still says something: lora={} is LoRA with all of PEFT's defaults.
        return [setting for group in inner for setting in group] or [Setting(key, {}, source)]
    if value in (None, "None") and (key in OPEN_BLOCKS or key == "sweep"):
        return [Setting(key, None, source)]
    if isinstance(value, str) and not in_sweep:
        path = find(value, folder)
        if path is not None:
            return _read_file(path, key, above, problems)
        problems.append(Problem(f"{key}={value}", source, f"no such file. {key} is a block of keys or a YAML file."))
        return []
    problems.append(Problem(f"{key}={value}", source, f"{key} is a block: write {key}.<key>=<value>, or name a file."))
    return []
