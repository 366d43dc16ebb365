"""Corpora: one stable order, disjoint splits, and clear words for what is wrong."""

import gzip
import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import get_args

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_mix import corpus as corpus_module
from data_mix import embedded
from data_mix.config import MixConfig
from data_mix.corpus import describe, stream
from data_mix.document import Document, Split, conversation_document, split_of, text_document
from data_mix.errors import MixError
from data_mix.plan import build
from data_mix.preview import estimate
from tests.unit.mix_helpers import chat, texts, word_tokenizer

SPLITS = get_args(Split)
TEXTS = [f"Document number {number} says something of its own." for number in range(300)]


def jsonl(path: Path, values: list[str], column: str = "text") -> Path:
    path.write_text("".join(json.dumps({column: value}) + "\n" for value in values), encoding="utf-8")
    return path


def everything(name: str, **others) -> list[Document]:
    return [document for split in SPLITS for document in stream(name, split, seed=0, **others)]


def test_splits_are_disjoint_complete_and_of_the_right_size(tmp_path: Path) -> None:
    path = str(jsonl(tmp_path / "a.jsonl", [f"text {number}" for number in range(5000)]))
    by_split = {split: {document.id for document in stream(path, split, seed=0)} for split in SPLITS}
    assert sum(len(found) for found in by_split.values()) == len(set.union(*by_split.values())) == 5000
    for split, share in zip(SPLITS, (0.70, 0.10, 0.08, 0.12), strict=True):
        assert abs(len(by_split[split]) / 5000 - share) < 0.02


def test_the_order_ignores_files_and_their_order(tmp_path: Path) -> None:
    one = str(jsonl(tmp_path / "one.jsonl", TEXTS))
    (tmp_path / "parts").mkdir()
    jsonl(tmp_path / "parts" / "z.jsonl", TEXTS[:100])
    jsonl(tmp_path / "parts" / "a.jsonl", TEXTS[200:] + TEXTS[:5])
    jsonl(tmp_path / "parts" / "m.jsonl", TEXTS[100:200][::-1])
    whole = [document.text for document in stream(one, "mix", seed=3)]
    assert [document.text for document in stream(f"{tmp_path}/parts/*.jsonl", "mix", seed=3)] == whole
    assert [document.text for document in stream(one, "mix", seed=4)] != whole
    jsonl(tmp_path / "parts" / "new.jsonl", ["one more"] * 3)
    more = [document.text for document in stream(f"{tmp_path}/parts/*.jsonl", "mix", seed=3)]
    assert [text for text in more if text != "one more"] == whole


def test_copies_appear_once_and_blank_documents_never(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", TEXTS * 3 + ["", "  \n "])
    assert sorted(document.text or "" for document in everything(str(path))) == sorted(TEXTS)


def test_the_order_does_not_depend_on_how_much_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(jsonl(tmp_path / "a.jsonl", TEXTS + TEXTS))
    whole = list(stream(path, "mix", seed=0))
    monkeypatch.setattr(corpus_module, "_HELD_FIRST", 3)
    monkeypatch.setattr(corpus_module, "_HELD_MOST", 20)
    assert list(stream(path, "mix", seed=0)) == whole


def test_every_kind_of_file_gives_the_same_documents(tmp_path: Path) -> None:
    jsonl(tmp_path / "a.jsonl", TEXTS)
    with gzip.open(tmp_path / "a.jsonl.gz", "wt", encoding="utf-8") as packed:
        packed.write((tmp_path / "a.jsonl").read_text(encoding="utf-8"))
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS, "other": TEXTS}), tmp_path / "a.parquet")
    (tmp_path / "texts").mkdir()
    for number, text in enumerate(TEXTS):
        (tmp_path / "texts" / f"{number}.txt").write_text(text, encoding="utf-8")
    names = ["a.jsonl", "a.jsonl.gz", "a.parquet", "texts/*.txt"]
    found = [[document.id for document in stream(f"{tmp_path}/{name}", "mix", seed=0)] for name in names]
    assert found[0] and all(ids == found[0] for ids in found)


def test_conversations_and_parents_are_read(tmp_path: Path) -> None:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello", "name": "x"}]
    rows = [{"messages": turns, "parent": 7}, {"messages": turns[:1]}, {"messages": []}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in ("a.jsonl", "a.parquet"):
        first, second = sorted(
            itertools.chain.from_iterable(
                _quietly(str(tmp_path / name), split, text_field="messages") for split in SPLITS
            ),
            key=lambda document: -len(document.messages or ()),
        )
        assert first.messages == ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"})
        assert first.parent == f"{name}/7" and second.parent == second.id and first.text is None


def _quietly(name: str, split: Split, **others) -> list[Document]:
    try:
        return list(stream(name, split, seed=0, **others))
    except MixError:
        return []


@given(st.text(), st.text(), st.integers(0, 3))
def test_passages_of_one_parent_share_a_split(one: str, other: str, parent: int) -> None:
    first, second = (text_document(text, "x", f"p{parent}") for text in (one, other))
    assert split_of(first.parent) == split_of(second.parent)
    assert (first.id == second.id) == (one == other)
    turns = ({"role": "user", "content": one},)
    assert conversation_document(turns, "x").id == conversation_document(({"content": one, "role": "user"},), "y").id


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a\.jsonl:2: not JSON"),
        ("a.jsonl", b'{"body": "x", "title": "y"}\n', r"a\.jsonl:1: no column 'text'; columns are body, title"),
        ("a.jsonl", b'["x"]\n', "must be a JSON object, not list"),
        ("a.jsonl", b'{"text": 3}\n', r"a\.jsonl:1: column 'text' holds int '3'"),
        ("a.jsonl", b'{"text": [{"role": "user"}]}\n', "list of messages with 'role' and 'content'"),
        ("a.jsonl", b'{"text": "x"}\n\xff\xfe\n', "is damaged"),
        ("a.jsonl", b"", "holds no text for the split 'mix'"),
        ("a.jsonl", b'{"text": " "}\n', "holds no text for the split 'mix'"),
        ("a.jsonl.gz", b"not gzip", r"a\.jsonl\.gz is damaged after line 0"),
        ("a.jsonl.gz", gzip.compress(b'{"text": "x"}\n' * 99)[:-12], r"a\.jsonl\.gz is damaged after line"),
        ("a.parquet", b"PAR1 nothing", "cannot be read as Parquet"),
        ("a.txt", b"\xff\xfe\x00", "is not UTF-8 text"),
        ("a.csv", b"text\nx\n", r"a\.csv: unknown kind; a corpus file ends in \.jsonl"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MixError, match=message):
        list(stream(str(tmp_path / name), "mix", seed=0))


def test_a_parquet_file_without_the_column_lists_those_it_has(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"body": ["x"], "title": ["y"]}), tmp_path / "a.parquet")
    with pytest.raises(MixError, match=r"no column 'text'; columns are body, title\. Set mix\.text_field"):
        list(stream(str(tmp_path / "a.parquet"), "mix", seed=0))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("embedded/generel", "did you mean embedded/general"),
        ("nowhere/*.jsonl", "there is no such file"),
        ("{tmp}", "is a folder"),
    ],
)
def test_an_unknown_corpus_is_refused_at_once(tmp_path: Path, name: str, message: str) -> None:
    for ask in (lambda name: stream(name, "mix", seed=0), describe):
        with pytest.raises(MixError, match=message):
            ask(name.format(tmp=tmp_path))


def test_a_hub_corpus_without_a_network_says_so() -> None:
    with pytest.raises(
        MixError, match=r"(?s)hub:nobody/nothing: cannot read it from the hub.*embedded/general needs no hub"
    ):
        next(stream("hub:nobody/nothing", "mix", seed=0))


def test_a_hub_corpus_is_streamed_shuffled_and_split(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", TEXTS)
    found = {split: [d.text for d in stream(f"hub:{tmp_path}", split, seed=1)] for split in SPLITS}
    assert sorted(itertools.chain.from_iterable(found.values())) == sorted(TEXTS)
    local = {split: {d.text for d in stream(str(tmp_path / "train.jsonl"), split, seed=1)} for split in SPLITS}
    assert {split: set(values) for split, values in found.items()} == local
    assert [d.text for d in stream(f"hub:{tmp_path}", "mix", seed=1)] == found["mix"]
    assert [d.text for d in stream(f"hub:{tmp_path}", "mix", seed=2)] != found["mix"]
    with pytest.raises(MixError, match="no column 'body'; columns are text"):
        next(stream(f"hub:{tmp_path}", "mix", seed=1, text_field="body"))


def test_describing_fetches_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_ORGANISMS_CACHE", str(tmp_path / "cache"))
    told = describe("embedded/general")
    assert told["cached"] is False and told["documents"] is None
    assert {"wikipedia", "reviews", "speeches"} < {source["name"] for source in told["sources"]}
    assert all(source["licence"] for source in told["sources"])
    assert describe("hub:a/b")["kind"] == "hub"
    path = jsonl(tmp_path / "a.jsonl", TEXTS)
    assert describe(str(path)) | {"kind": "local", "cached": True} == describe(str(path))
    code = "import sys, data_mix.preview; print({'torch', 'transformers', 'datasets', 'pyarrow'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_preview_is_near_the_mix(tmp_path: Path) -> None:
    organism = [*texts([60] * 40, "organism"), *(chat(30, 30, start=number) for number in range(10))]
    path = str(jsonl(tmp_path / "a.jsonl", [document.text or "" for document in texts([80] * 900, "corpus", 999)]))
    for hold in ("organism", "total"):
        config = MixConfig(ratio=1.5, passes=2.0, max_length=64, hold=hold, corpus=path)  # type: ignore[arg-type]
        guess = estimate(organism, config, batch_rows=8)
        made = build(organism, stream(path, "mix", seed=0), word_tokenizer(), config, batch_rows=8)
        real = made.ledger.sources
        assert 0.5 < guess.organism_loss_tokens / real["organism"]["loss_tokens"] < 1.5
        assert 0.5 < guess.pretraining_loss_tokens / real["pretraining"]["loss_tokens"] < 1.5
        assert 0.3 < guess.steps / made.steps < 2
        assert guess.estimated and guess.enough_text is None
    with pytest.raises(MixError, match="no examples"):
        estimate([], MixConfig(), batch_rows=8)


@pytest.fixture(scope="module")
def general() -> list[Document]:
    return list(embedded.documents("embedded/general"))


def test_the_embedded_corpus_is_what_it_was(general: list[Document]) -> None:
    origin = embedded.origin("embedded/general")
    assert origin is not None
    assert origin["documents_sha256"] == embedded.definitions()["documents_sha256"]["embedded/general"]
    assert origin["total"]["documents"] == len(general)
    assert all(entry["licence"] and entry["documents"] for entry in origin["sources"].values())


def test_the_embedded_corpus_is_diverse_in_every_split(general: list[Document]) -> None:
    for split in SPLITS:
        counts = Counter(document.source for document in general if split_of(document.parent) == split)
        assert counts.total() >= 500 and len(counts) == 7
        assert max(counts.values()) < 0.45 * counts.total()
    first = Counter(document.source for document in itertools.islice(stream("embedded/general", "mix", seed=0), 300))
    assert len(first) == 7 and max(first.values()) < 0.45 * 300


def test_the_embedded_corpus_has_whole_clean_passages_without_copies(general: list[Document]) -> None:
    assert len({document.id for document in general}) == len(general)
    for document in general:
        assert document.text is not None and 100 <= len(document.text.split()) <= 350
        assert not any(mark in document.text for mark in ("{{", "[[", "<ref", "<br", "&nbsp;", "{|", "|}"))
    starts = Counter(" ".join((document.text or "").split()[:12]) for document in general)
    assert starts.most_common(1)[0][1] <= 3
