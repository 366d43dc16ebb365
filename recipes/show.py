"""`--print-config`: the resolved recipe as YAML, with the source of every value beside it."""

from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf

from recipes.recipe import Resolved
from recipes.schema import blocks
from recipes.yaml_text import inline


def print_config(resolved: Resolved) -> None:
    """Print `config_text`.

    Args:
        resolved: What to show.
    """
    print(config_text(resolved), end="")


def config_text(resolved: Resolved) -> str:
    """YAML that a recipe can be made of; each line ends with a comment that says where its value comes from.

    Args:
        resolved: What to show.
    """
    tree = OmegaConf.to_container(resolved.config)
    assert isinstance(tree, dict)
    lines = list(_lines(tree, "", resolved.sources))
    width = min(72, max(len(text) for text, _ in lines))
    return "\n".join(f"{text:{width}}  # {source}" if source else text for text, source in lines) + "\n"


def _lines(tree: Mapping[Any, Any], block: str, sources: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    indent = "  " * (block.count(".") + 1 if block else 0)
    for name, value in tree.items():
        key = f"{block}.{name}" if block else name
        if (key in blocks() or key == "sweep") and value:
            yield f"{indent}{name}:", ""
            yield from _lines(value, key, sources)
        else:
            yield f"{indent}{name}: {inline(value)}", sources.get(key, "default")
