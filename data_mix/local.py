"""Corpora in local files: JSONL, JSONL.gz, Parquet, txt."""

import glob
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_mix.document import Document, conversation_document, text_document
from data_mix.errors import MixError

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet", ".txt")


def files(corpus: str) -> list[Path]:
    """The files a path or glob names, sorted.

    Args:
        corpus: A path or a glob; `**` crosses folders.

    Raises:
        MixError: There is no such file, or one of an unknown kind.
    """
    path = Path(corpus).expanduser()
    if path.is_dir():
        raise MixError(f"mix.corpus={corpus} is a folder; name its files with a glob such as '{corpus}/**/*.jsonl'.")
    found = [path] if path.is_file() else [Path(name) for name in glob.glob(str(path), recursive=True)]
    found = sorted(file for file in found if file.is_file())
    if not found:
        raise MixError(
            f"mix.corpus={corpus}: there is no such file. A corpus is embedded/general, embedded/general-plus, "
            "a file or glob (JSONL, JSONL.gz, Parquet, txt), or hub:<dataset id>."
        )
    for file in found:
        if not file.name.endswith(_SUFFIXES):
            raise MixError(f"corpus file {file}: unknown kind; a corpus file ends in {', '.join(_SUFFIXES)}.")
    return found


def read(paths: list[Path], text_field: str) -> Iterator[Document]:
    """The documents of some files; those without any text are left out.

    Args:
        paths: What `files` gave.
        text_field: Column with the text, or with the list of messages.

    Yields:
        Documents whose source is the name of their file. A row's `parent` column, if there is one, is kept.

    Raises:
        MixError: A file cannot be read, or a row lacks the column.
    """
    for path in paths:
        for place, row in _rows(path, text_field):
            document = row_document(row, text_field, path.name, place)
            if document is not None:
                yield document


def row_document(row: dict[str, Any], text_field: str, source: str, place: str) -> Document | None:
    """The document in one row of a table; None if it has no text.

    Args:
        row: The row by column.
        text_field: Column with the text, or with the list of messages.
        source: The document's source.
        place: How to name the row in an error.

    Raises:
        MixError: The column is missing or holds neither text nor messages.
    """
    if text_field not in row:
        raise MixError(
            f"{place}: no column '{text_field}'; columns are {', '.join(map(str, row))}. Set mix.text_field."
        )
    value = row[text_field]
    parent = None if row.get("parent") is None else f"{source}/{row['parent']}"
    if isinstance(value, str):
        return text_document(value, source, parent) if value.strip() else None
    if isinstance(value, list) and all(_is_message(message) for message in value):
        messages = tuple({"role": message["role"], "content": message["content"]} for message in value)
        return conversation_document(messages, source, parent) if messages else None
    raise MixError(
        f"{place}: column '{text_field}' holds {type(value).__name__} {str(value)[:60]!r}; it must hold text, or a "
        "list of messages with 'role' and 'content'."
    )


def _is_message(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), str)


def _rows(path: Path, text_field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    if path.name.endswith(".parquet"):
        yield from _parquet(path, text_field)
    elif path.name.endswith(".txt"):
        yield str(path), {text_field: _text(path)}
    else:
        yield from _jsonl(path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise MixError(f"corpus file {path} is not UTF-8 text: {error}.") from error


def _jsonl(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    number = 0
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    row = json.loads(line)
                    if not isinstance(row, dict):
                        raise MixError(f"{path}:{number}: a line must be a JSON object, not {type(row).__name__}.")
                    yield f"{path}:{number}", row
    except json.JSONDecodeError as error:
        raise MixError(f"{path}:{number}: not JSON: {error.msg} at column {error.colno}.") from error
    except (gzip.BadGzipFile, EOFError, UnicodeDecodeError) as error:
        raise MixError(f"corpus file {path} is damaged after line {number}: {error}.") from error


def _parquet(path: Path, text_field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as table:
            names = table.schema_arrow.names
            wanted = [name for name in (text_field, "parent") if name in names]
            if text_field not in names:
                raise MixError(
                    f"{path}: no column '{text_field}'; columns are {', '.join(names)}. Set mix.text_field."
                )
            number = 0
            for batch in table.iter_batches(batch_size=1024, columns=wanted):
                for row in batch.to_pylist():
                    yield f"{path} row {number}", row
                    number += 1
    except (pyarrow.ArrowException, OSError) as error:
        raise MixError(f"corpus file {path} cannot be read as Parquet: {error}.") from error
