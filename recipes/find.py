"""From what a person writes after `recipe=` to a file, and from a file to what messages call it."""

from difflib import get_close_matches
from pathlib import Path

HERE = Path(__file__).resolve().parent
"""The folder of the recipes that come with the workbench."""


def find(name: str, folder: Path) -> Path | None:
    """The YAML file that `name` means.

    Args:
        name: A path (with or without `.yaml`) relative to `folder`, or a recipe's name under `recipes/`.
        folder: Where to look first.

    Returns:
        The file, or None if there is none.
    """
    file = name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"
    # The last one finds "recipes/quickstart" from any working directory.
    candidates = (folder / file, folder / "recipes" / file, HERE / file, HERE.parent / file)
    return next((path.resolve() for path in candidates if path.is_file()), None)


def names() -> list[str]:
    """Names of the recipes that come with the workbench, without those that are only for inheriting."""
    files = (path.relative_to(HERE).with_suffix("") for path in HERE.rglob("*.yaml"))
    return sorted(file.as_posix() for file in files if not any(part.startswith("_") for part in file.parts))


def not_found(name: str) -> str:
    """The sentence for a recipe that does not exist.

    Args:
        name: What was asked for.
    """
    known = names()
    wanted = name.removesuffix(".yaml").removesuffix(".yml").removeprefix("recipes/")
    close = get_close_matches(wanted, known, n=1) or [k for k in known if k.split("/")[-1] == wanted.split("/")[-1]]
    advice = f"Did you mean {close[0]}? " if close else ""
    return f"no such file, and no recipe of that name. {advice}Recipes: {', '.join(known)}."


def label(path: Path) -> str:
    """What messages and saved recipes call a file: short, and the same on every machine where it can be.

    Args:
        path: An absolute path.
    """
    for root in (HERE.parent, Path.cwd()):
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return str(path)
