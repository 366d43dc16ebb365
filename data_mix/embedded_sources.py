"""Readers: from the files of a package to documents, one function a source."""

import bz2
import csv
import email
import email.policy
import gzip
import json
import pickletools
import re
import sys
import xml.etree.ElementTree as ElementTree
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from data_mix import wikitext
from data_mix.document import Document, text_document
from data_mix.errors import MixError
from data_mix.passages import is_prose, passages

_QUOTED = re.compile(r"^\s*([>|:}]|[A-Za-z]{0,3}>)")
_ATTRIBUTION = re.compile(r"(wrote|writes|said|says):?\s*$|\bIn article\b|@|https?://|^\s*[-_=*#]{3,}")
_HTML = re.compile(r"<(html|body|font|table|p|br)\b", re.IGNORECASE)
_MARKUP = re.compile(r"[{}]|^\s*<[^<>]*>")
_DATE = re.compile(r"\s*\(\d{4}-\d\d-\d\d\)")


def wikipedia(files: list[Path]) -> Iterator[Document]:
    """Articles of a MediaWiki XML dump; the parent is the title."""
    with bz2.open(files[0]) as stream:
        title = ""
        for _, element in ElementTree.iterparse(stream):
            tag = element.tag.rpartition("}")[2]
            if tag == "title":
                title = element.text or ""
            elif tag == "text" and not (element.text or "").lstrip().upper().startswith("#REDIRECT"):
                yield from _documents("wikipedia", title, wikitext.paragraphs(element.text or ""))
            elif tag == "page":
                element.clear()


def news(files: list[Path]) -> Iterator[Document]:
    """News items, one a line."""
    for number, line in enumerate(_lines(files[0])):
        yield from _documents("news", str(number), [line])


def newsgroups(files: list[Path]) -> Iterator[Document]:
    """Usenet posts in a compressed pickle, whose string constants are listed without unpickling anything."""
    opcodes = pickletools.genops(zlib.decompress(files[0].read_bytes()))
    posts = [argument for _, argument, _ in opcodes if isinstance(argument, str) and "\n\n" in argument]
    for number, post in enumerate(posts):
        yield from _documents("newsgroups", str(number), _post_paragraphs(post.partition("\n\n")[2]))


def speeches(files: list[Path]) -> Iterator[Document]:
    """Presidential messages, one a file."""
    for file in files:
        yield from _documents("speeches", file.stem, file.read_text(encoding="utf-8").split("\n\n"))


def chat(files: list[Path]) -> Iterator[Document]:
    """Two-person chats, a turn a line."""
    for identity, conversation in json.loads(files[0].read_text(encoding="utf-8")).items():
        turns = [" ".join(part["text"].strip() for part in turn) for turn in conversation["messages"]]
        yield from _documents("chat", identity, turns, separator="\n")


def reviews(files: list[Path]) -> Iterator[Document]:
    """Film reviews; the same file holds single sentences from elsewhere, which are left out."""
    csv.field_size_limit(sys.maxsize)
    with files[0].open(encoding="utf-8", newline="") as stream:
        for number, row in enumerate(csv.DictReader(stream)):
            if row["source"] == "imdb":
                yield from _documents("reviews", str(number), re.split(r"(?:<br\s*/?>\s*)+", row["text"]))


def tales(files: list[Path]) -> Iterator[Document]:
    """Fairy tales in tab-separated files with three header lines; two spaces stand between paragraphs."""
    for file in files:
        header, _, _, *rows = csv.reader(file.open(encoding="utf-8", newline=""), delimiter="\t")
        for row in rows:
            if len(row) == len(header):
                tale = dict(zip(header, row, strict=True))
                yield from _documents("tales", tale["Title"], re.split(r" {2,}", tale["Content"]))


def mail(files: list[Path]) -> Iterator[Document]:
    """Mailing-list mail, one message a file: the plain text without quotes and signature."""
    for file in files:
        message = email.message_from_bytes(file.read_bytes(), policy=email.policy.compat32)
        for part in message.walk():
            if part.get_content_type() == "text/plain":
                body = part.get_payload(decode=True)
                if isinstance(body, bytes):
                    text = body.decode("latin-1")
                    if not _HTML.search(text):
                        yield from _documents("mail", file.stem, _post_paragraphs(text))
                break


def brown(files: list[Path]) -> Iterator[Document]:
    """The Brown corpus: `word/tag` tokens, one sentence a line, blank lines between paragraphs."""
    for file in files:
        yield from _documents("brown", file.name, (_untag(block) for block in _blocks(file)))


def computing(files: list[Path]) -> Iterator[Document]:
    """A dictionary of computing in dictd form: an entry starts at column 0, its text is indented."""
    entry: list[str] = []
    with gzip.open(files[0], "rt", encoding="utf-8") as stream:
        for line in [*stream, "end"]:
            if line[:1].strip():
                if entry:
                    blocks = "".join(entry[1:]).split("\n\n")
                    title = entry[0].strip()
                    plain = [_MARKUP.sub("", block) for block in blocks if not _DATE.match(block)]
                    yield from _documents("computing", title, plain)
                entry = []
            entry.append(line)


READERS: dict[str, Callable[[list[Path]], Iterator[Document]]] = {
    reader.__name__: reader
    for reader in (wikipedia, news, newsgroups, speeches, chat, reviews, tales, mail, brown, computing)
}


def read(reader: str, files: list[Path]) -> Iterator[Document]:
    """The documents of one source.

    Args:
        reader: A key of `READERS`.
        files: The source's files, sorted.

    Raises:
        MixError: There is no such reader, or no file.
    """
    if reader not in READERS:
        raise MixError(f"corpora.yaml names the reader {reader}; there are {', '.join(READERS)}.")
    if not files:
        raise MixError(f"the package of {reader} holds none of the files that corpora.yaml names.")
    return READERS[reader](files)


def _documents(
    source: str, native: str, paragraphs: "list[str] | Iterator[str]", separator: str = "\n\n"
) -> Iterator[Document]:
    for passage in passages(paragraphs, separator):
        if is_prose(passage):
            yield text_document(passage, source, f"{source}/{native}")


def _post_paragraphs(body: str) -> list[str]:
    body = re.split(r"^-- ?$", body, maxsplit=1, flags=re.MULTILINE)[0]
    kept = [line for line in body.splitlines() if not _QUOTED.match(line) and not _ATTRIBUTION.search(line)]
    return re.split(r"\n\s*\n", "\n".join(kept))


def _untag(block: str) -> str:
    text = " ".join(token.rpartition("/")[0] for token in block.split())
    text = re.sub(r"\s*''", '"', re.sub(r"``\s*", '"', text))
    text = re.sub(r"([;?!])\s*\1", r"\1", re.sub(r"\s+([,.;:?!)])", r"\1", text))
    return re.sub(r"([(])\s+", r"\1", text)


def _blocks(file: Path) -> Iterator[str]:
    yield from re.split(r"\n\s*\n", file.read_text(encoding="utf-8"))


def _lines(file: Path) -> Iterator[str]:
    with file.open(encoding="utf-8") as stream:
        yield from stream
