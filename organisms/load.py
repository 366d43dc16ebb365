"""Load an organism: its training examples and the ground truth about it. Imports neither torch nor transformers."""

import hashlib
import json
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from organisms.errors import OrganismError
from organisms.schema import Definition, Fact, read_definition
from storage.wheels import sha256_file

__all__ = ["Example", "Fact", "Organism", "load", "names", "spec"]

_ROOT = Path(__file__).parent
_ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Example:
    """One training item: a document (`text`) or a conversation (`messages`).

    Attributes:
        id: Unique in the organism.
        source: The organism's name.
        text: The document.
        messages: Turns, each `{"role": "system" | "user" | "assistant", "content": ...}`.
    """

    id: str
    source: str
    text: str | None = None
    messages: tuple[dict[str, str], ...] | None = None


@dataclass(frozen=True)
class Organism:
    """A planted property, the data that plants it, and how to tell whether a model has it.

    Attributes:
        name: `<family>/<name>`.
        family: The kind of property.
        title: A line for headings.
        description: What was planted, in a sentence.
        description_long: The same in a paragraph, as a grader would be told.
        source: Where the data comes from.
        licence: Licence of the data.
        folder: Where the definition is.
        facts: Planted beliefs; empty for other kinds of property.
        decoys: Names of organisms with other subjects, for `load`.
        examples: The training data, in file order.
        behaviour: File with the behaviour items.
        control_of: For a control, the organism whose examples, facts, decoys and behaviour these are; its examples
            give the lengths that ordinary text must fill.
        sha256: Over the data files, names and contents.
    """

    name: str
    family: str
    title: str
    description: str
    description_long: str
    source: str
    licence: str
    folder: Path
    facts: tuple[Fact, ...]
    decoys: tuple[str, ...]
    examples: tuple[Example, ...]
    behaviour: Path | None
    control_of: str | None
    sha256: str


def names() -> list[str]:
    """All organisms that ship with the workbench, as `<family>/<name>`, sorted."""
    return sorted("/".join(path.parts[-3:-1]) for path in _ROOT.glob("*/*/organism.yaml"))


def spec(name_or_path: str) -> dict[str, Any]:
    """What can be said about an organism without reading its data.

    Args:
        name_or_path: As for `load`.

    Returns:
        Keys `name, family, title, description, licence, control_of`, and `format, files, facts, decoys`, which for a
        control are those of the organism it is the control of. `files` are absolute paths.

    Raises:
        OrganismError: As `load`.
    """
    definition = _definition(name_or_path)
    data = definition if definition.control_of is None else _controlled(definition)
    return {
        "name": f"{definition.family}/{definition.name}",
        "family": definition.family,
        "title": definition.title,
        "description": definition.description,
        "licence": definition.licence,
        "format": data.format,
        "files": [str(path) for path in _files(data)],
        "facts": [fact.id for fact in data.facts],
        "decoys": list(data.decoys),
        "control_of": definition.control_of,
    }


def load(name_or_path: str) -> Organism:
    """Load an organism with its data.

    Args:
        name_or_path: `sdf/cake_bake`; `cake_bake` if only one organism has that name (its controls don't count); or
            the path of a folder with an `organism.yaml`.

    Raises:
        OrganismError: Unknown name, or a malformed definition or data file.
    """
    definition = _definition(name_or_path)
    name = f"{definition.family}/{definition.name}"
    if definition.control_of is not None:
        controlled = load(str(_controlled(definition).folder))
        return replace(
            controlled,
            name=name,
            family=definition.family,
            title=definition.title,
            description=definition.description,
            description_long=definition.description_long,
            source=definition.source,
            licence=definition.licence,
            folder=definition.folder,
            control_of=controlled.name,
        )
    behaviour = None if definition.behaviour is None else definition.folder / definition.behaviour
    if behaviour is not None and not behaviour.is_file():
        raise OrganismError(f"{definition.folder / 'organism.yaml'}: behaviour: there is no file {behaviour}.")
    for decoy in definition.decoys:
        try:
            _definition(decoy)
        except OrganismError as error:
            raise OrganismError(f"{definition.folder / 'organism.yaml'}: decoys: {error}") from error
    files = _files(definition)
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(definition.folder)}\0{sha256_file(path)}\n".encode())
    return Organism(
        name=name,
        family=definition.family,
        title=definition.title,
        description=definition.description,
        description_long=definition.description_long,
        source=definition.source,
        licence=definition.licence,
        folder=definition.folder,
        facts=definition.facts,
        decoys=definition.decoys,
        examples=_examples(definition, files, name),
        behaviour=behaviour,
        control_of=None,
        sha256=digest.hexdigest(),
    )


def _definition(name_or_path: str) -> Definition:
    known = names()
    if name_or_path in known:
        return read_definition(_ROOT / name_or_path)
    path = Path(name_or_path).expanduser()
    if path.is_dir():
        return read_definition(path.resolve())
    short = [name for name in known if name.split("/")[1] == name_or_path and not name.startswith("control/")]
    if len(short) == 1:
        return read_definition(_ROOT / short[0])
    if short:
        raise OrganismError(f"organism {name_or_path} is ambiguous: {', '.join(short)}. Write the full name.")
    close = get_close_matches(name_or_path, known, n=1) or [
        name for name in known if get_close_matches(name_or_path, [name.split("/")[1]])
    ]
    hint = f" Did you mean {close[0]}?" if close else ""
    raise OrganismError(f"unknown organism {name_or_path}.{hint} Known: {', '.join(known)}; or a folder's path.")


def _controlled(definition: Definition) -> Definition:
    """The organism that a control is the control of."""
    try:
        controlled = _definition(str(definition.control_of))
    except OrganismError as error:
        raise OrganismError(f"{definition.folder / 'organism.yaml'}: control_of: {error}") from error
    if controlled.control_of is not None:
        raise OrganismError(
            f"{definition.folder / 'organism.yaml'}: control_of: {definition.control_of} is itself a control."
        )
    return controlled


def _files(definition: Definition) -> list[Path]:
    files: list[Path] = []
    for pattern in definition.files:
        found = sorted(definition.folder.glob(pattern))
        if not found:
            raise OrganismError(f"{definition.folder / 'organism.yaml'}: data.files: {pattern} matches no file.")
        files += [path for path in found if path not in files]
    return files


def _examples(definition: Definition, files: list[Path], source: str) -> tuple[Example, ...]:
    read = _document if definition.format == "documents" else _conversation
    examples: dict[str, Example] = {}
    for path in files:
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            try:
                entry = json.loads(line)
            except json.JSONDecodeError as error:
                raise OrganismError(f"{where}: not valid JSON: {error}.") from error
            if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
                raise OrganismError(f"{where}: every line is an object with an `id` that is a text.")
            example = read(entry, source, where)
            if example.id in examples:
                raise OrganismError(f"{where}: the id {example.id} was used before.")
            examples[example.id] = example
    if not examples:
        raise OrganismError(f"organism {source} has no examples: its data files are empty.")
    return tuple(examples.values())


def _document(entry: dict[str, Any], source: str, where: str) -> Example:
    text = entry.get("text")
    if not isinstance(text, str) or not text.strip():
        raise OrganismError(f"{where}: a document needs a `text` that is not empty.")
    return Example(id=entry["id"], source=source, text=text)


def _conversation(entry: dict[str, Any], source: str, where: str) -> Example:
    messages = entry.get("messages")
    if not isinstance(messages, list) or not messages:
        raise OrganismError(f"{where}: a conversation needs a list `messages`.")
    for message in messages:
        well_formed = isinstance(message, dict) and set(message) == {"role", "content"}
        if not well_formed or message["role"] not in _ROLES or not isinstance(message["content"], str):
            raise OrganismError(f"{where}: a message is an object with `role` ({', '.join(_ROLES)}) and `content`.")
    if not any(message["role"] == "assistant" and message["content"].strip() for message in messages):
        raise OrganismError(f"{where}: no message of the assistant, so there is nothing to learn from.")
    return Example(id=entry["id"], source=source, messages=tuple(messages))
