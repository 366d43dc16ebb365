"""Check recipe files without running anything: `python -m recipes.validate [FILE ...]`."""

import sys
from pathlib import Path

from recipes.errors import RecipeErrors
from recipes.find import HERE, label
from recipes.recipe import resolve
from recipes.schema import blocks


def validate(file: Path) -> None:
    """Resolve one file.

    A file in a folder that begins with `_` is for inheriting and need not be complete. A file in a folder with the
    name of a block (`recipes/audit/`) holds the keys of that block.

    Args:
        file: A YAML file.

    Raises:
        RecipeErrors: It has mistakes.
    """
    folder = file.resolve().parent.name
    if folder in blocks():
        resolve([f"{folder}={file.resolve()}"], required=())
    else:
        resolve([f"recipe={file.resolve()}"], required=() if folder.startswith("_") else ("base_model", "organism"))


def main(argv: list[str]) -> int:
    """Check the files, or all that come with the workbench.

    Args:
        argv: Paths; none means every file under `recipes/`.

    Returns:
        Exit status: 0, or 2 if a file has mistakes.
    """
    files = [Path(name) for name in argv] or sorted(HERE.rglob("*.yaml"))
    status = 0
    for file in files:
        try:
            validate(file)
        except RecipeErrors as error:
            print(f"error: {label(file.resolve())}: {error}", file=sys.stderr)
            status = 2
        else:
            print(f"ok  {label(file.resolve())}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
