"""JSON into frozen dataclasses; what does not fit is an error that names the file and the key."""

import dataclasses
import json
import math
import types
import typing
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from audit.errors import AuditError

T = TypeVar("T")


def read_json(path: Path) -> Any:
    """Content of a JSON file.

    Raises:
        AuditError: It is missing or not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise AuditError(f"{path} does not exist") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise AuditError(
            f"{path} is not JSON (line {error.lineno}: {error.msg}). Delete it and make it again"
        ) from None


def read_json_lines(path: Path) -> list[Any]:
    """One value per line; a last line that was cut off by a kill is left out, as the writer's resume does.

    Raises:
        AuditError: Another line is not JSON.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    values = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise AuditError(
                f"{path}, line {number}: not JSON ({error.msg}). Delete the file and make it again"
            ) from None
    return values


def build(kind: type[T], data: Any, file: Path, key: str = "") -> T:
    """An instance of a dataclass from a JSON object; keys that the dataclass does not have are ignored.

    Args:
        kind: The dataclass; its fields may be numbers, strings, booleans, dataclasses, tuples, string-keyed dicts,
            unions with None, and Any. A field with a default may be missing.
        data: The object.
        file: Where it comes from, for the message.
        key: Dotted key of `data` in that file, for the message.

    Raises:
        AuditError: A key is missing or holds something else.
    """
    result = _convert(kind, data, file, key)
    assert isinstance(result, kind)
    return result


def _convert(kind: Any, data: Any, file: Path, key: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return data
    if origin is types.UnionType:
        inner = next(argument for argument in arguments if argument is not types.NoneType)
        return None if data is None else _convert(inner, data, file, key)
    if dataclasses.is_dataclass(kind):
        return _fields(kind, _expect(data, dict, "an object", file, key), file, key)
    if origin is tuple:
        items = _expect(data, list, "a list", file, key)
        return tuple(_convert(arguments[0], item, file, f"{key}[{index}]") for index, item in enumerate(items))
    if origin is dict:
        mapping = _expect(data, dict, "an object", file, key)
        return {well_formed(name): _convert(arguments[1], mapping[name], file, f"{key}.{name}") for name in mapping}
    if kind is float:
        number = _expect(data, (int, float), "a number", file, key)
        if isinstance(number, bool) or not math.isfinite(number):
            raise _wrong(data, "a finite number", file, key)
        return float(number)
    if kind is int:
        if isinstance(data, bool):
            raise _wrong(data, "a whole number", file, key)
        return _expect(data, int, "a whole number", file, key)
    if kind is bool:
        return _expect(data, bool, "true or false", file, key)
    assert kind is str, kind
    return well_formed(_expect(data, str, "a text", file, key))


@cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _fields(kind: Any, data: dict[str, Any], file: Path, key: str) -> Any:
    hints = _hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        inner = f"{key}.{field.name}" if key else field.name
        if field.name in data:
            values[field.name] = _convert(hints[field.name], data[field.name], file, inner)
        elif field.default is dataclasses.MISSING:
            raise AuditError(
                f"{file}: {inner} is missing. The file is incomplete or of another version: make it again"
            )
    return kind(**values)


def _expect(data: Any, kind: Any, words: str, file: Path, key: str) -> Any:
    if not isinstance(data, kind):
        raise _wrong(data, words, file, key)
    return data


def _wrong(data: Any, words: str, file: Path, key: str) -> AuditError:
    shown = repr(data) if len(repr(data)) <= 60 else repr(data)[:57] + "..."
    return AuditError(f"{file}: {key or 'the file'} should be {words}, not {shown}")


def well_formed(text: str) -> str:
    """Text that UTF-8 can write: JSON escapes can spell half a surrogate pair, which becomes U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
