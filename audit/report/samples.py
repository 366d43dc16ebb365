"""Generated text side by side: unsteered, steered, and what leaks without any steering."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audit.report.page import Table, badge, prose, safe
from audit.report.schema import Readout, Sample
from audit.report.wording import number

KINDS = {
    "unsteered": "Unsteered",
    "steered": "Steered by the difference",
    "null": "Steered along a random direction",
}


@dataclass(frozen=True)
class Steered:
    """Samples of one reader.

    Attributes:
        reader: Whose text.
        position: The position that is shown first: where the headline is.
        strength: Its strength.
        table: Prompt and one column per kind of text.
        others: The same at the other positions, with a title.
    """

    reader: str
    position: int | None
    strength: float | None
    table: Table
    others: Sequence[tuple[str, Table]]


def steered(readouts: Sequence[Readout], samples: Sequence[Sample], words: frozenset[str]) -> list[Steered]:
    """Steered samples beside unsteered ones, finetuned reader first.

    Args:
        readouts: Graded readouts; the steering headline says which position to show first.
        samples: Of all readers and kinds.
        words: The organism's vocabulary, to be marked.
    """
    chosen = [sample for sample in samples if sample.kind in KINDS]
    result = []
    for reader in sorted({sample.reader for sample in chosen}, key=lambda name: (name != "finetuned", name)):
        mine = [sample for sample in chosen if sample.reader == reader]
        strengths = {one.position: one.strength for one in reversed(mine) if one.kind == "steered"}
        positions = sorted(position for position in strengths if position is not None)
        peaks = [
            one.headline for one in readouts if one.readout == "steering" and one.reader == reader and one.headline
        ]
        best = next((peak.position for peak in peaks if peak.position in positions), next(iter(positions), None))
        others = [
            (f"position {position}, strength {number(strengths[position])}", _side_by_side(mine, position, words))
            for position in positions
            if position != best
        ]
        result.append(Steered(reader, best, strengths.get(best), _side_by_side(mine, best, words), others))
    return result


def _side_by_side(samples: Sequence[Sample], position: int | None, words: frozenset[str]) -> Table:
    """The first sample of each kind for each prompt."""
    texts: dict[str, dict[str, Markup]] = {}
    for sample in samples:
        if sample.kind == "unsteered" or (sample.position == position and position is not None):
            texts.setdefault(sample.prompt, {}).setdefault(sample.kind, _cell(sample, words))
    kinds = [kind for kind in KINDS if any(kind in found for found in texts.values())]
    return _table(texts, {kind: KINDS[kind] for kind in kinds})


def leakage_table(samples: Sequence[Sample], words: frozenset[str]) -> Table | None:
    """Unsteered text of both models on the leakage prompts; none if the audit kept none."""
    texts: dict[str, dict[str, Markup]] = {}
    for sample in samples:
        if sample.kind == "leakage":
            texts.setdefault(sample.prompt, {}).setdefault(sample.reader, _cell(sample, words))
    return _table(texts, {"finetuned": "Finetuned model", "base": "Base model"}) if texts else None


def _cell(sample: Sample, words: frozenset[str]) -> Markup:
    grade = Markup("") if sample.relevance is None else badge(f"relevance {number(sample.relevance)}", "quiet")
    return Markup('<div class="sample">{}{}</div>').format(prose(sample.text, words), grade)


def _table(texts: dict[str, dict[str, Markup]], columns: dict[str, str]) -> Table:
    nothing = Markup('<span class="quiet">no sample</span>')
    rows = [
        [Markup("<bdi>{}</bdi>").format(safe(prompt)), *(found.get(column, nothing) for column in columns)]
        for prompt, found in texts.items()
    ]
    return Table(["Prompt", *columns.values()], rows, numeric=1 + len(columns))
