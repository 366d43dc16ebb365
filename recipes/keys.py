"""Every key that a recipe can set: `python -m recipes.keys [WORD ...]`."""

import sys

from recipes.convert import describe
from recipes.errors import RecipeErrors
from recipes.owned import OWNED
from recipes.schema import keys


def table(words: list[str]) -> str:
    """The keys that contain every word, each with its default, its type and its meaning.

    Args:
        words: Parts of keys; none shows all.
    """
    chosen = [key for key in keys().values() if key.name not in OWNED and all(word in key.name for word in words)]
    return "\n".join(f"{key.name} = {key.default}\n    {describe(key.annotation)}. {key.help}" for key in chosen)


def main(words: list[str]) -> int:
    """Print the table.

    Args:
        words: The command line.

    Returns:
        Exit status: 0, or 2 if there is no such key.
    """
    try:
        text = table(words)
    except RecipeErrors as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if not text:
        print(f"error: no key contains {' and '.join(words)}.", file=sys.stderr)
        return 2
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
