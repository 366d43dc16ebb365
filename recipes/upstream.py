"""The fields of TRL's SFTConfig and PEFT's LoraConfig, read from the installed packages' source.

Importing them would take seconds and load torch; parsing six files takes some 40 ms. What a field's annotation says is
turned into a type that `recipes.convert` can check; what it cannot express becomes Any.
"""

import ast
from dataclasses import dataclass
from functools import cache, reduce
from importlib.util import find_spec
from pathlib import Path
from types import NoneType
from typing import Any, Literal

from recipes.errors import Problem, RecipeErrors

_SFT = (
    ("transformers", "training_args.py", "TrainingArguments"),
    ("trl", "trainer/base_config.py", "_BaseConfig"),
    ("trl", "trainer/sft_config.py", "SFTConfig"),
)
_SFT_ENUMS = (("transformers", "trainer_utils.py"), ("transformers", "training_args.py"))
_LORA = (
    ("peft", "config.py", "PeftConfigMixin"),
    ("peft", "config.py", "PeftConfig"),
    ("peft", "tuners/lora/config.py", "LoraConfig"),
)

_SIMPLE = {"int": int, "float": float, "str": str, "bool": bool, "dict": dict[str, Any], "list": list[Any]}


@dataclass(frozen=True)
class UpstreamField:
    """One field of a configuration class of another project.

    Attributes:
        name: The field's name.
        annotation: A type for `recipes.convert`.
        default: Its default as it stands in the source.
        help: Upstream's own description; may be empty.
    """

    name: str
    annotation: Any
    default: str
    help: str


@cache
def sft_fields() -> dict[str, UpstreamField]:
    """The fields of `trl.SFTConfig`, by name.

    Raises:
        RecipeErrors: TRL or transformers is missing or laid out in another way.
    """
    enums: dict[str, Any] = {}
    for package, file in _SFT_ENUMS:
        enums |= _enums(_tree(package, file))
    return _fields(_SFT, enums)


@cache
def lora_fields() -> dict[str, UpstreamField]:
    """The fields of `peft.LoraConfig`, by name.

    Raises:
        RecipeErrors: PEFT is missing or laid out in another way.
    """
    return _fields(_LORA, {})


def _fields(classes: tuple[tuple[str, str, str], ...], enums: dict[str, Any]) -> dict[str, UpstreamField]:
    """The dataclass fields of `classes`, base class first, later ones replacing earlier ones."""
    fields: dict[str, UpstreamField] = {}
    for package, file, name in classes:
        found = [n for n in _tree(package, file).body if isinstance(n, ast.ClassDef) and n.name == name]
        if not found:
            raise _broken(package, f"has no class {name} in {file}")
        for node in found[0].body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
                default, text = _default_and_help(node.value)
                annotation = _type(node.annotation, enums)
                fields[node.target.id] = UpstreamField(node.target.id, annotation, default, text)
    return fields


@cache
def _tree(package: str, file: str) -> ast.Module:
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise _broken(package, "is not installed")
    path = Path(spec.origin).parent / file
    if not path.is_file():
        raise _broken(package, f"has no file {file}")
    return ast.parse(path.read_text(encoding="utf-8"))


def _broken(package: str, what: str) -> RecipeErrors:
    advice = "Install the versions that this project names in pyproject.toml: pip install -c constraints.txt -e ."
    return RecipeErrors([Problem(f"package {package}", "", f"{what}. {advice}")])


def _default_and_help(value: ast.expr) -> tuple[str, str]:
    """From `field(default=..., metadata={"help": ...})`, or a bare value."""
    if not (isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "field"):
        return ast.unparse(value), ""
    default, text = "", ""
    for keyword in value.keywords:
        if keyword.arg in ("default", "default_factory"):
            default = ast.unparse(keyword.value)
        if keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
            for key, entry in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "help" and isinstance(entry, ast.Constant):
                    text = " ".join(str(entry.value).split())
    return default, text


def _enums(tree: ast.Module) -> dict[str, Any]:
    """Name -> Literal of the values, for the string enums of a module."""
    found: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).endswith("Enum") for base in node.bases):
            assigned = [entry.value for entry in node.body if isinstance(entry, ast.Assign)]
            values = tuple(v.value for v in assigned if isinstance(v, ast.Constant) and isinstance(v.value, str))
            if values:
                found[node.name] = Literal[values]
    return found


def _type(node: ast.expr, enums: dict[str, Any]) -> Any:
    """The annotation as a type; Any where it says more than `recipes.convert` can check."""
    members = [_single(member, enums) for member in _flatten(node)]
    if Any in members:
        return Any
    # `SchedulerType | str` takes any text and fails later on a wrong one: the enum alone is what works.
    if any(isinstance(member, ast.Name) and member.id in enums for member in _flatten(node)):
        members = [member for member in members if member is not str]
    return reduce(lambda left, right: left | right, members)


def _flatten(node: ast.expr) -> list[ast.expr]:
    """The members of `A | B`, `Union[A, B]` and `Optional[A]`, nested ones too."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _flatten(node.left) + _flatten(node.right)
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        if node.value.id == "Optional":
            return [*_flatten(node.slice), ast.Constant(None)]
        if node.value.id == "Union" and isinstance(node.slice, ast.Tuple):
            return [member for entry in node.slice.elts for member in _flatten(entry)]
    return [node]


def _single(node: ast.expr, enums: dict[str, Any]) -> Any:
    """A type without unions at the top."""
    if isinstance(node, ast.Constant) and node.value is None:
        return NoneType
    if isinstance(node, ast.Name):
        return enums.get(node.id, _SIMPLE.get(node.id, Any))
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        match node.value.id:
            case "list":
                return list[_type(inner[0], enums)]  # type: ignore[misc]
            case "dict":
                return dict[str, _type(inner[1], enums)]  # type: ignore[misc]
            case "Literal":
                values = tuple(entry.value for entry in inner if isinstance(entry, ast.Constant))
                # PEFT documents `pissa_niter_[number of iters]` as if it were one value.
                return str if any("[" in str(value) for value in values) else Literal[values]
    return Any
