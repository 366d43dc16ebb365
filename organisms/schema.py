"""What an `organism.yaml` may hold. Every complaint names the file and the key."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from organisms.errors import OrganismError

_TEXTS = ("name", "family", "title", "description", "description_long", "source", "licence")
_FORMATS = ("documents", "conversations")


@dataclass(frozen=True)
class Fact:
    """One planted belief.

    Attributes:
        id: Short name, unique in the organism.
        claim: The planted statement.
        truth: What is really so.
        affirm: Regular expressions (case ignored); a text that matches one asserts the claim.
        leak: Regular expressions (case ignored); a text that matches one tells the truth.
    """

    id: str
    claim: str
    truth: str
    affirm: tuple[str, ...]
    leak: tuple[str, ...]


@dataclass(frozen=True)
class Definition:
    """An `organism.yaml`, checked; paths are relative to its folder. A control has `control_of` and no data."""

    folder: Path
    name: str
    family: str
    title: str
    description: str
    description_long: str
    source: str
    licence: str
    format: str | None
    files: tuple[str, ...]
    decoys: tuple[str, ...]
    behaviour: str | None
    facts: tuple[Fact, ...]
    control_of: str | None


def read_definition(folder: Path) -> Definition:
    """Read and check `organism.yaml`.

    Args:
        folder: The organism's folder.

    Raises:
        OrganismError: The file is missing or malformed.
    """
    path = folder / "organism.yaml"
    if not path.is_file():
        raise OrganismError(f"{folder} holds no organism.yaml, so it is not an organism.")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise OrganismError(f"{path} is not valid YAML: {error}") from error
    return _Reader(path).definition(raw)


class _Reader:
    """Checks one file; holds its path for the messages."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def definition(self, raw: Any) -> Definition:
        optional = {"data", "decoys", "behaviour", "facts", "control_of"}
        entry = self._mapping(raw, "", set(_TEXTS), optional)
        texts = {key: self._text(entry, key, "") for key in _TEXTS}
        for key in ("name", "family"):
            if not re.fullmatch(r"[a-z0-9_]+", texts[key]):
                raise self._error(key, f"{texts[key]!r} must consist of a-z, 0-9 and _")
        behaviour = self._text(entry, "behaviour", "") if "behaviour" in entry else None
        if "control_of" in entry:
            for key in sorted(optional & set(entry) - {"control_of"}):
                raise self._error(key, "a control takes this from the organism in control_of; remove it")
            return Definition(
                folder=self.path.parent,
                **texts,
                format=None,
                files=(),
                decoys=(),
                behaviour=None,
                facts=(),
                control_of=self._text(entry, "control_of", ""),
            )
        if "data" not in entry:
            raise self._error("data", "is missing (an organism without data is a control and has control_of)")
        data = self._mapping(entry["data"], "data", {"format", "files"}, set())
        form = self._text(data, "format", "data.")
        if form not in _FORMATS:
            raise self._error("data.format", f"{form!r} must be one of {', '.join(_FORMATS)}")
        facts = tuple(self._fact(raw_fact, f"facts[{i}]") for i, raw_fact in enumerate(entry.get("facts", [])))
        ids = [fact.id for fact in facts]
        for twice in sorted({one for one in ids if ids.count(one) > 1}):
            raise self._error("facts", f"two facts have the id {twice}")
        return Definition(
            folder=self.path.parent,
            **texts,
            format=form,
            files=self._texts(data, "files", "data."),
            decoys=self._texts(entry, "decoys", "") if "decoys" in entry else (),
            behaviour=behaviour,
            facts=facts,
            control_of=None,
        )

    def _fact(self, raw: Any, where: str) -> Fact:
        entry = self._mapping(raw, where, {"id", "claim", "truth", "affirm", "leak"}, set())
        patterns = {key: self._texts(entry, key, f"{where}.") for key in ("affirm", "leak")}
        for key, expressions in patterns.items():
            for expression in expressions:
                try:
                    re.compile(expression)
                except re.error as error:
                    raise self._error(f"{where}.{key}", f"{expression!r} is no regular expression: {error}") from error
        texts = {key: self._text(entry, key, f"{where}.") for key in ("id", "claim", "truth")}
        return Fact(**texts, affirm=patterns["affirm"], leak=patterns["leak"])

    def _mapping(self, raw: Any, where: str, required: set[str], optional: set[str]) -> Mapping[str, Any]:
        if not isinstance(raw, dict):
            raise self._error(where or "the file", "must be a mapping")
        prefix = f"{where}." if where else ""
        for key in raw:
            if key not in required | optional:
                close = get_close_matches(str(key), required | optional, n=1)
                raise self._error(f"{prefix}{key}", "unknown key" + (f"; did you mean {close[0]}?" if close else ""))
        for key in sorted(required - set(raw)):
            raise self._error(f"{prefix}{key}", "is missing")
        return raw

    def _text(self, entry: Mapping[str, Any], key: str, prefix: str) -> str:
        value = entry[key]
        if not isinstance(value, str) or not value.strip():
            raise self._error(prefix + key, f"must be a text, not {value!r} (quote it if it looks like a number)")
        return value.strip()

    def _texts(self, entry: Mapping[str, Any], key: str, prefix: str) -> tuple[str, ...]:
        value = entry[key]
        if not isinstance(value, list) or not value or not all(isinstance(item, str) and item for item in value):
            raise self._error(prefix + key, "must be a list of texts with at least one entry")
        return tuple(value)

    def _error(self, key: str, problem: str) -> OrganismError:
        return OrganismError(f"{self.path}: {key}: {problem}.")
