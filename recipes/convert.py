"""Does a value fit a type? Strict: no text becomes a number, no number becomes text."""

import json
import math
import types
from difflib import get_close_matches
from typing import Any, Literal, Union, get_args, get_origin

_WORDS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}
_NAMES = {bool: "true or false", int: "an integer", float: "a float", str: "text", type(None): "null"}


class Misfit(ValueError):
    """The value does not fit; the message says what is needed."""


def convert(value: Any, annotation: Any) -> Any:
    """The value as the type wants it.

    Args:
        value: What YAML gave.
        annotation: None, bool, int, float, str, `list[T]`, `dict[str, T]`, Literal, a union of these, or Any.

    Returns:
        The value; an integer for a float field as a float, `yes`/`on`/`no`/`off` for a bool field as a bool, and
        the word `None` as null where null is allowed.

    Raises:
        Misfit: It does not fit.
    """
    if annotation is Any:
        return value
    members = _members(annotation)
    if type(None) in members and (value is None or value == "None"):
        return None
    for exact in (True, False):
        for member in members:
            try:
                return _fit(value, member, exact)
            except _NoFit:
                continue
    raise Misfit(f"needs {describe(annotation)}.{_advice(value, members)}")


def describe(annotation: Any) -> str:
    """The type in words, for messages.

    Args:
        annotation: As for `convert`.
    """
    if annotation is Any:
        return "anything"
    return " or ".join(_name(member) for member in _members(annotation))


def allows_dict(annotation: Any) -> bool:
    """Whether a mapping can be a value of the type.

    Args:
        annotation: As for `convert`.
    """
    return annotation is Any or any(get_origin(member) is dict for member in _members(annotation))


def reads_as_text(annotation: Any) -> bool:
    """Whether every value of the type but null is text, so that the command line's raw text is the value.

    Args:
        annotation: As for `convert`.
    """
    if annotation is Any:
        return False
    members = [member for member in _members(annotation) if member is not type(None)]
    return all(member is str or _is_choice_of_texts(member) for member in members)


class _NoFit(Exception):
    pass


def _fit(value: Any, member: Any, exact: bool) -> Any:
    """`value` as `member`, which is not a union; `exact` forbids words as bools, so that `str | bool` keeps "no"."""
    origin = get_origin(member)
    if origin is Literal:
        for option in get_args(member):
            if type(option) is type(value) and option == value:
                return value
    elif origin is list and isinstance(value, list):
        return [_inner(item, get_args(member)[0]) for item in value]
    elif origin is dict and isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _inner(item, get_args(member)[1]) for key, item in value.items()}
    elif member is float and isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    elif member in (int, str, bool) and type(value) is member:
        return value
    elif member is bool and isinstance(value, str) and not exact and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    raise _NoFit


def _is_choice_of_texts(member: Any) -> bool:
    return get_origin(member) is Literal and all(isinstance(option, str) for option in get_args(member))


def _inner(item: Any, annotation: Any) -> Any:
    try:
        return convert(item, annotation)
    except Misfit:
        raise _NoFit from None


def _members(annotation: Any) -> tuple[Any, ...]:
    if get_origin(annotation) in (Union, types.UnionType):
        return get_args(annotation)
    return (type(None),) if annotation is None else (annotation,)


def _name(member: Any) -> str:
    origin, args = get_origin(member), get_args(member)
    if origin is Literal:
        return "one of " + ", ".join(json.dumps(option).strip('"') for option in args)
    if origin is list:
        return "a list" if args[0] is Any else f"a list, each item {describe(args[0])}"
    if origin is dict:
        return "a mapping"
    return _NAMES[member]


def _advice(value: Any, members: tuple[Any, ...]) -> str:
    options = [str(option) for member in members if get_origin(member) is Literal for option in get_args(member)]
    if isinstance(value, str) and (close := get_close_matches(value, options, n=1)):
        return f" Did you mean {close[0]}?"
    if str in members and isinstance(value, bool | int | float):
        return " Put quotes around it."
    if isinstance(value, float) and not math.isfinite(value):
        return " It must be finite."
    if any(get_origin(member) is list for member in members) and isinstance(value, bool | int | float):
        return f" Write [{value}]."
    return ""
