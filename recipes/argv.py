"""The command line: `recipe=...`, `dotted.key=value`, and two flags."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from recipes.errors import Problem
from recipes.find import find
from recipes.layers import COMMAND_LINE, Setting, flatten
from recipes.schema import blocks
from recipes.suggest import suggest
from recipes.yaml_text import parse

USAGE = """\
usage: accelerate launch train/sft.py recipe=NAME_OR_FILE [recipe=...] [key=value ...] [--print-config] [--dry-run]

  recipe=quickstart          a recipe under recipes/, or a path; several are laid over each other, left to right
  mix.ratio=0.5              any setting, by its dotted key; lists as 'checkpoints.steps=[10,20]'
  lora=null                  no LoRA: a full finetune
  audit=my_audit.yaml        the settings of a whole block from a file
  --print-config             show the resolved recipe and where each value comes from, then stop
  --dry-run                  show what would be done, without loading weights, then stop

All keys: python -m recipes.keys [WORD]"""


@dataclass
class CommandLine:
    """What a command line says.

    Attributes:
        recipes: Values of `recipe=`, in order.
        settings: Everything else, in order.
        extra: Values of the entry point's own keys.
        flags: The flags that are given, without the dashes.
    """

    recipes: list[str] = field(default_factory=list)
    settings: list[Setting] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)


def read_command_line(argv: Sequence[str], extra_keys: Collection[str], problems: list[Problem]) -> CommandLine:
    """Sort the words of a command line.

    Args:
        argv: Without the program's name.
        extra_keys: Keys of the entry point that no recipe has.
        problems: What goes wrong is added here.
    """
    line = CommandLine()
    for word in argv:
        if word in ("--print-config", "--dry-run"):
            line.flags.add(word.removeprefix("--"))
        elif word.startswith("-"):
            problems.append(Problem(word, COMMAND_LINE, _dashed(word, extra_keys)))
        elif "=" not in word or word.startswith("="):
            problems.append(Problem(word, COMMAND_LINE, _bare(word)))
        else:
            key, _, text = word.partition("=")
            _read_word(key.strip(), text, line, extra_keys, problems)
    return line


def _read_word(key: str, text: str, line: CommandLine, extra_keys: Collection[str], problems: list[Problem]) -> None:
    if key == "recipe":
        line.recipes.append(text)
        return
    try:
        value = parse(text)
    except ValueError as error:
        # `name=a: b` is no YAML and a good text; what is no good text is found out by its type.
        value, broken = text, str(error)
        if text[:1] in ("[", "{", '"', "'"):
            problems.append(Problem(f"{key}={text}", COMMAND_LINE, f"{broken}."))
            return
    if key in extra_keys:
        line.extra[key] = None if value == "None" else value
    elif key in blocks() or key.split(".")[0] == "sweep":
        line.settings += flatten(key, value, COMMAND_LINE, Path.cwd(), problems)
    else:
        line.settings.append(Setting(key, value, COMMAND_LINE, text))


def _dashed(word: str, extra_keys: Collection[str]) -> str:
    name, _, value = word.lstrip("-").partition("=")
    if name in ("help", "h"):
        return f"\n{USAGE}"
    if name in ("print_config", "dry_run"):
        return f"did you mean --{name.replace('_', '-')}?"
    close = suggest(name.replace("-", "_"), extra_keys) or suggest(name, extra_keys)
    return f"options are written key=value. Write {close or name.replace('-', '_')}={value or '...'}."


def _bare(word: str) -> str:
    if find(word, Path.cwd()):
        return f"did you mean recipe={word}?"
    return f"is not key=value. Did you mean {suggest(word) or word}=...?"
