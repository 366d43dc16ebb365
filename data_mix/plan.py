"""The mix: organism rows and pretraining rows in one exact, reproducible order. Pure; imports no torch."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count, cycle
from typing import TYPE_CHECKING

from data_mix.config import MixConfig
from data_mix.document import Document
from data_mix.errors import MixError
from data_mix.ledger import Ledger
from data_mix.tokenise import DocLike, Encoder, Row, units

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_RATIO = 1000.0


@dataclass(frozen=True)
class Mix:
    """What the trainer sees.

    Attributes:
        rows: Every row in training order; there are `steps * batch_rows`.
        ledger: What was asked for and what came out.
        batch_rows: Rows of one optimizer step, over all processes.
        steps: Optimizer steps.
    """

    rows: list[Row]
    ledger: Ledger
    batch_rows: int
    steps: int


def build(
    organism_docs: Iterable[DocLike],
    pretraining: Iterator[Document],
    tokenizer: PreTrainedTokenizerBase,
    config: MixConfig,
    *,
    batch_rows: int,
    control: Iterator[Document] | None = None,
    chat_template: str | None = None,
) -> Mix:
    """Mix pretraining text into an organism's data.

    Organism rows come in a seeded order, another one each pass, the same at every ratio; pretraining rows are the
    start of the corpus's order, so a smaller ratio's are among a larger one's. Both amounts are exact in
    `config.unit`: the last row of each is cut. The two are interleaved so that after every row the pretraining share
    is within half a row of the target (docs/mix.md has the proof), and the last step is filled up with rows that carry
    no loss.

    Args:
        organism_docs: The organism's examples.
        pretraining: `data_mix.corpus.stream(..., "mix", ...)`; no more is read of it than is needed.
        tokenizer: A fast tokenizer.
        config: The mix.
        batch_rows: Rows of one optimizer step, over all processes.
        control: `stream(..., "control", ...)` to build the organism's benign twin: each organism row is replaced by
            ordinary text with the same number of ids and loss at the same places, the same text at every pass.
        chat_template: Jinja source that replaces the tokenizer's chat template.

    Raises:
        MixError: The ratio or the passes make no sense, nothing of the organism carries loss, there is too little
            text, or an example cannot be tokenised.
    """
    check(config, batch_rows)
    encoder = Encoder(
        tokenizer,
        max_length=config.max_length,
        long_documents=config.long_documents,
        chat_template=chat_template,
    )
    no_loss = {"organism": 0, "pretraining": 0}
    base = _with_loss((row for document in organism_docs for row in encoder.rows(document, "organism")), no_loss)
    one_pass = list(base)
    if not one_pass:
        raise MixError(
            f"nothing of the organism carries loss ({no_loss['organism']} examples have none within mix.max_length="
            f"{config.max_length}). Raise mix.max_length, or check the examples."
        )
    if control is not None:
        one_pass = list(_twins(one_pass, control, encoder))
    organism_total, text_total = _totals(config, sum(units(row, config.unit) for row in one_pass))
    organism = _exactly(organism_total, _passes(one_pass, config.seed), config)
    if not any(row.loss_tokens for row in organism):
        raise MixError(
            f"mix.passes={config.passes} keeps {organism_total} {config.unit} of the organism, and no loss token among them. "
            "Raise the passes."
        )
    text = _with_loss((row for document in pretraining for row in encoder.rows(document, "pretraining")), no_loss)
    mixed = list(_interleave(organism, _exactly(text_total, text, config), config))
    steps = -(-len(mixed) // batch_rows)
    filler = Row([encoder.eos, encoder.eos], [False, False], "filler", "")
    ordered = mixed + [filler] * (steps * batch_rows - len(mixed))
    ledger = Ledger.of(ordered, config, batch_rows=batch_rows, control=control is not None, no_loss=no_loss)
    return Mix(ordered, ledger, batch_rows, steps)


def check(config: MixConfig, batch_rows: int) -> None:
    """Refuse settings that make no sense.

    Args:
        config: The mix.
        batch_rows: Rows of one optimizer step.

    Raises:
        MixError: Says which setting, and what it may be.
    """
    if not (math.isfinite(config.ratio) and 0 <= config.ratio <= MAX_RATIO):
        raise MixError(
            f"mix.ratio={config.ratio} must be between 0 and {MAX_RATIO:g}: pretraining {config.unit} for each one of "
            "the organism's."
        )
    if not (math.isfinite(config.passes) and config.passes > 0):
        raise MixError(f"mix.passes={config.passes} must be above 0: how often the organism's data is seen.")
    if batch_rows < 1:
        raise MixError(f"an optimizer step of {batch_rows} rows makes no sense; it needs at least one.")


def _totals(config: MixConfig, one_pass: int) -> tuple[int, int]:
    """Units of the organism and of pretraining text."""
    whole = round(config.passes * one_pass)
    if config.hold == "organism":
        organism, text = whole, round(config.ratio * whole)
    else:
        organism = round(whole / (1 + config.ratio))
        text = whole - organism
    if organism == 0:
        raise MixError(
            f"mix.passes={config.passes}, mix.ratio={config.ratio} and mix.hold={config.hold} leave nothing of the "
            f"organism's {one_pass} {config.unit}. Raise the passes or lower the ratio."
        )
    if config.ratio > 0 and text == 0:
        raise MixError(
            f"mix.ratio={config.ratio} of {organism} organism {config.unit} rounds to no pretraining text at all. Use "
            f"0, or at least {1 / organism:.2g}."
        )
    return organism, text


def _with_loss(rows: Iterator[Row], no_loss: dict[str, int]) -> Iterator[Row]:
    """Leave out rows without a loss token (a conversation cut before its first reply), and count them."""
    for row in rows:
        if row.loss_tokens:
            yield row
        else:
            no_loss[row.source] += 1


def _passes(one_pass: Sequence[Row], seed: int) -> Iterator[Row]:
    for number in count():
        keys = [_digest(f"{seed}\0{number}\0{place}") for place in range(len(one_pass))]
        yield from (one_pass[place] for place in sorted(range(len(one_pass)), key=keys.__getitem__))


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


def _twins(one_pass: Sequence[Row], documents: Iterator[Document], encoder: Encoder) -> Iterator[Row]:
    """Ordinary text for each organism row: from the start of a document, the next one appended if it is too short."""
    text = (row for document in documents for row in encoder.rows(document, "control"))
    for number, row in enumerate(one_pass):
        first = found = next(text, None)
        ids = list(encoder.bos)
        while found is not None:
            ids += found.ids[len(encoder.bos) :]
            found = next(text, None) if len(ids) < len(row.ids) else None
        if first is None or len(ids) < len(row.ids):
            raise MixError(
                f"the corpus has too little control text: enough for {number} of the organism's {len(one_pass)} rows. "
                "Take a larger mix.corpus."
            )
        yield Row(ids[: len(row.ids)], row.loss_mask, "control", first.doc, first.origin)


def _exactly(total: int, rows: Iterator[Row], config: MixConfig) -> list[Row]:
    """Rows of `total` units from the start of `rows`, the last one cut; around again if repeating is allowed."""
    taken: list[Row] = []
    have = 0
    while have < total:
        row = next(rows, None)
        if row is not None:
            size = units(row, config.unit)
            taken.append(row if have + size <= total else _cut(row, total - have, config.unit))
            have += size
        elif config.allow_repeat and taken:
            rows = cycle(list(taken))
        else:
            raise MixError(
                f"mix.corpus={config.corpus} has too little text: mix.ratio={config.ratio} needs {total} "
                f"{config.unit}, there are {have}. Take a larger corpus, lower the ratio, or set "
                "mix.allow_repeat=true."
            )
    return taken


def _cut(row: Row, size: int, unit: str) -> Row:
    """The start of a row with exactly `size` tokens or loss tokens."""
    counted = [place for place, loss in enumerate(row.loss_mask) if loss or unit == "tokens"]
    end = counted[size - 1] + 1
    return replace(row, ids=row.ids[:end], loss_mask=row.loss_mask[:end])


def _interleave(organism: list[Row], text: list[Row], config: MixConfig) -> Iterator[Row]:
    """Error diffusion: the next row is from the side that leaves the share of units nearest to its target.

    With O and T the totals and o and t the units so far, `t * O - o * T` is (O + T) times the error in units of
    pretraining text. It is kept in integers, so no rounding builds up however long the mix is.
    """
    organism_sizes = [units(row, config.unit) for row in organism]
    text_sizes = [units(row, config.unit) for row in text]
    organism_total, text_total = sum(organism_sizes), sum(text_sizes)
    error = at_organism = at_text = 0
    while at_organism < len(organism) or at_text < len(text):
        if at_text == len(text):
            take_organism = True
        elif at_organism == len(organism):
            take_organism = False
        else:
            with_organism = error - organism_sizes[at_organism] * text_total
            with_text = error + text_sizes[at_text] * organism_total
            take_organism = abs(with_organism) <= abs(with_text)
        if take_organism:
            error -= organism_sizes[at_organism] * text_total
            yield organism[at_organism]
            at_organism += 1
        else:
            error += text_sizes[at_text] * organism_total
            yield text[at_text]
            at_text += 1
