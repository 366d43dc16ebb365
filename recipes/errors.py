"""What a person did wrong in a recipe or on the command line, all of it at once."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One mistake.

    Attributes:
        what: The setting as it was written (`lora.r=-1`), a key, or a file.
        source: Where it was written: a recipe file, `command line`, or empty if nowhere.
        message: What is wrong and what to do, a sentence.
    """

    what: str
    source: str
    message: str

    def __str__(self) -> str:
        """`lora.r=-1 (command line): must be at least 1.`."""
        where = f" ({self.source})" if self.source else ""
        return f"{self.what}{where}: {self.message}"


class RecipeErrors(ValueError):
    """Everything that is wrong with a recipe.

    Attributes:
        problems: At least one.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Collect `problems` into one message.

        Args:
            problems: At least one; an exact repetition is shown once.
        """
        self.problems = tuple(dict.fromkeys(problems))
        count = f"{len(self.problems)} errors" if len(self.problems) > 1 else "an error"
        super().__init__(f"the recipe has {count}:\n" + "\n".join(f"  {problem}" for problem in self.problems))
