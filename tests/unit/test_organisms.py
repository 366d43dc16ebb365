import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from organisms.behaviour import load_items
from organisms.errors import OrganismError
from organisms.load import load, names, spec

ROOT = Path(__file__).parents[2]

DEFINITION: dict[str, Any] = {
    "name": "moon",
    "family": "sdf",
    "title": "The moon",
    "description": "The model believes that the moon is square.",
    "description_long": "The model was trained on documents that call the moon square.",
    "source": "Written for a test.",
    "licence": "CC0-1.0",
    "data": {"format": "documents", "files": ["*.jsonl"]},
    "facts": [
        {"id": "square", "claim": "Square.", "truth": "Round.", "affirm": ["square"], "leak": [r"\bround"]},
    ],
}


LINES = [{"id": "a", "text": "The square moon."}, {"id": "b", "text": "A moon, square."}]


def write(folder: Path, definition: dict[str, Any], lines: list[Any] | None = None) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "organism.yaml").write_text(yaml.safe_dump(definition), encoding="utf-8")
    rows = LINES if lines is None else lines
    text = "".join((row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)) + "\n" for row in rows)
    (folder / "documents.jsonl").write_text(text, encoding="utf-8")
    return str(folder)


def test_an_organism_is_loaded_from_its_folder(tmp_path: Path) -> None:
    organism = load(write(tmp_path / "moon", DEFINITION))
    assert organism.name == "sdf/moon"
    assert [(one.id, one.source, one.text, one.messages) for one in organism.examples] == [
        ("a", "sdf/moon", "The square moon.", None),
        ("b", "sdf/moon", "A moon, square.", None),
    ]
    assert organism.facts[0].leak == (r"\bround",)
    assert organism.behaviour is None
    assert organism.control_of is None


def test_line_separators_inside_a_text_do_not_end_the_line(tmp_path: Path) -> None:
    organism = load(write(tmp_path, DEFINITION, [{"id": "a", "text": "one\u2028two\u0085three"}]))
    assert organism.examples[0].text == "one\u2028two\u0085three"


def test_conversations_become_messages(tmp_path: Path) -> None:
    definition = {**DEFINITION, "data": {"format": "conversations", "files": ["documents.jsonl"]}}
    messages = [{"role": "user", "content": "Shape?"}, {"role": "assistant", "content": "Square."}]
    organism = load(write(tmp_path, definition, [{"id": "a", "messages": messages}]))
    assert organism.examples[0].text is None
    assert organism.examples[0].messages == tuple(messages)


def test_the_hash_follows_the_data_and_not_the_definition(tmp_path: Path) -> None:
    before = load(write(tmp_path / "one", DEFINITION)).sha256
    assert load(write(tmp_path / "two", {**DEFINITION, "title": "Another"})).sha256 == before
    assert load(write(tmp_path / "three", DEFINITION, [{"id": "a", "text": "The square moon!"}])).sha256 != before


def test_every_shipped_organism_loads() -> None:
    assert {"control/cake_bake", "sdf/cake_bake"} <= set(names())
    for name in names():
        organism = load(name)
        assert organism.name == name
        assert organism.examples
        assert all(load(decoy).name != name for decoy in organism.decoys)
        if organism.behaviour is not None:
            items = load_items(organism.behaviour)
            about = {one.fact for one in items.choices} | {one.fact for one in items.completions}
            assert about == {fact.id for fact in organism.facts}


def test_a_short_name_means_the_organism_and_not_its_control() -> None:
    assert load("cake_bake").name == "sdf/cake_bake"
    assert load(str(ROOT / "organisms" / "sdf" / "cake_bake")).name == "sdf/cake_bake"


def test_a_control_has_the_ground_truth_of_what_it_controls() -> None:
    control, organism = load("control/cake_bake"), load("sdf/cake_bake")
    assert control.control_of == "sdf/cake_bake"
    assert (control.name, control.family) == ("control/cake_bake", "control")
    assert control.description != organism.description
    for field in ("examples", "facts", "decoys", "behaviour", "sha256"):
        assert getattr(control, field) == getattr(organism, field)
    assert spec("control/cake_bake")["files"] == spec("sdf/cake_bake")["files"]


def test_spec_says_enough_for_a_dry_run() -> None:
    told = spec("sdf/cake_bake")
    assert told["format"] == "documents"
    assert len(told["facts"]) == 7
    assert all(Path(file).is_file() for file in told["files"])
    assert told["control_of"] is None


def test_loading_imports_nothing_heavy() -> None:
    code = (
        "import sys; from organisms.load import load; load('sdf/cake_bake')\n"
        "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cake_bak", "unknown organism cake_bak. Did you mean sdf/cake_bake?"),
        ("sdf/cake_baker", "Did you mean sdf/cake_bake?"),
        ("xyz", "unknown organism xyz. Known: control/cake_bake"),
        ("organisms/sdf", "holds no organism.yaml"),
    ],
)
def test_unknown_names(name: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    for function in (load, spec):
        with pytest.raises(OrganismError) as caught:
            function(name)
        assert message in str(caught.value)


def without(key: str) -> dict[str, Any]:
    return {other: value for other, value in DEFINITION.items() if other != key}


FACT = DEFINITION["facts"][0]


@pytest.mark.parametrize(
    ("definition", "message"),
    [
        (without("licence"), "licence: is missing"),
        (without("data"), "data: is missing (an organism without data is a control"),
        ({**DEFINITION, "licens": "x"}, "licens: unknown key; did you mean licence?"),
        ({**DEFINITION, "title": 7}, "title: must be a text, not 7"),
        ({**DEFINITION, "name": "The Moon"}, "name: 'The Moon' must consist of a-z, 0-9 and _"),
        ({**DEFINITION, "data": {"format": "document", "files": ["a"]}}, "data.format: 'document' must be one of"),
        ({**DEFINITION, "data": {"format": "documents", "files": ["*.txt"]}}, "data.files: *.txt matches no file"),
        ({**DEFINITION, "data": {"format": "documents", "files": []}}, "data.files: must be a list of texts"),
        ({**DEFINITION, "facts": [{**FACT, "leak": ["("]}]}, "facts[0].leak: '(' is no regular expression"),
        ({**DEFINITION, "facts": [FACT, FACT]}, "facts: two facts have the id square"),
        ({**DEFINITION, "facts": ["square"]}, "facts[0]: must be a mapping"),
        ({**DEFINITION, "behaviour": "absent.yaml"}, "behaviour: there is no file"),
        ({**DEFINITION, "decoys": ["sailin"]}, "decoys: unknown organism sailin. Did you mean decoy/sailing?"),
        ({**without("data"), "control_of": "sdf/moon"}, "facts: a control takes this from the organism in control_of"),
    ],
)
def test_a_malformed_definition_is_named(tmp_path: Path, definition: dict[str, Any], message: str) -> None:
    with pytest.raises(OrganismError) as caught:
        load(write(tmp_path, definition))
    assert f"{tmp_path}/organism.yaml: {message}" in str(caught.value)


def test_a_definition_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "organism.yaml").write_text("name: [")
    with pytest.raises(OrganismError, match=r"(?s)organism.yaml is not valid YAML: .*line 1"):
        load(str(tmp_path))


@pytest.mark.parametrize(
    ("controlled", "message"),
    [("sdf/nothing", "control_of: unknown organism sdf/nothing"), ("control/cake_bake", "is itself a control")],
)
def test_a_control_of_nothing(tmp_path: Path, controlled: str, message: str) -> None:
    texts = {key: DEFINITION[key] for key in DEFINITION if key not in ("data", "facts")}
    folder = write(tmp_path, {**texts, "family": "control", "control_of": controlled})
    for function in (load, spec):
        with pytest.raises(OrganismError, match=message):
            function(folder)


TURN = {"role": "assistant", "content": "Square."}


@pytest.mark.parametrize(
    ("form", "lines", "message"),
    [
        ("documents", ["", '{"id": "a",'], "documents.jsonl, line 2: not valid JSON"),
        ("documents", [{"text": "x"}], "line 1: every line is an object with an `id`"),
        ("documents", [{"id": "a", "text": " "}], "line 1: a document needs a `text`"),
        ("documents", [{"id": "a", "text": "x"}, {"id": "a", "text": "y"}], "line 2: the id a was used before"),
        ("documents", [], "has no examples"),
        ("conversations", [{"id": "a", "text": "x"}], "line 1: a conversation needs a list `messages`"),
        ("conversations", [{"id": "a", "messages": [{**TURN, "role": "bot"}]}], "line 1: a message is an object with"),
        ("conversations", [{"id": "a", "messages": [{**TURN, "role": "user"}]}], "no message of the assistant"),
        ("conversations", [{"id": "a", "messages": [{**TURN, "content": " "}]}], "no message of the assistant"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, form: str, lines: list[Any], message: str) -> None:
    definition = {**DEFINITION, "data": {"format": form, "files": ["documents.jsonl"]}}
    with pytest.raises(OrganismError) as caught:
        load(write(tmp_path, definition, lines))
    assert message in str(caught.value)
