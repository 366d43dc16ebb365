"""The report of one checkpoint: who reads what in it, on which evidence."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from audit.report import charts, collect, wording
from audit.report.page import Figure, Table, badge, prose, render, safe
from audit.report.schema import Audit, Comparison, FailedAudit, Readout, Sample
from audit.report.tables import flatten
from storage.atomic import write_text


def write_checkpoint_report(audit_dir: Path) -> Path:
    """Writes report.html beside an audit.json.

    Args:
        audit_dir: checkpoint-<step>/audit, or the output folder of any audit.

    Raises:
        AuditError: audit.json is missing or does not fit its schema.
    """
    audit = collect.load_audit(audit_dir)
    parent = audit_dir.resolve().parent.parent
    run_link = "../../report.html" if collect.is_run(parent) and audit_dir.name == "audit" else None
    if isinstance(audit, FailedAudit):
        page = render("failed.html", audit=audit, subject=audit.subject, run_link=run_link)
    else:
        page = _render(audit, collect.load_samples(audit_dir), run_link)
    report = audit_dir / "report.html"
    write_text(report, page)
    return report


def _render(audit: Audit, samples: Sequence[Sample], run_link: str | None) -> str:
    by_key = {readout.key: readout for readout in audit.readouts}
    readouts = [by_key[key] for key in wording.order(by_key)]
    graded = [readout for readout in readouts if readout.headline is not None]
    words = frozenset(entry.word.lower() for entry in audit.vocabulary)
    return render(
        "checkpoint.html",
        audit=audit,
        subject=audit.subject,
        run_link=run_link,
        readability=[
            _readability(metric, [readout for readout in graded if readout.metric == metric], place == 0)
            for place, metric in enumerate(dict.fromkeys(readout.metric for readout in graded))
        ],
        headlines=_headlines(graded) if graded else None,
        change=_change(audit),
        with_tokens=[readout for readout in readouts if any(at.tokens for at in readout.by_position)],
        without_tokens=[readout for readout in readouts if not any(at.tokens for at in readout.by_position)],
        steered=_steered(graded, samples, words),
        n_samples=len(samples),
        difference=_difference(audit),
        config=list(flatten(audit.config).items()),
        environment=[(key, str(value)) for key, value in audit.environment.items()],
        seconds=[(stage, wording.duration(seconds)) for stage, seconds in audit.wall_seconds.items()],
        total_seconds=sum(audit.wall_seconds.values()),
    )


def _readability(metric: str, readouts: Sequence[Readout], explain: bool) -> Figure:
    unit = (
        readouts[0].unit if len({readout.unit for readout in readouts}) == 1 else f"{metric}, share of tokens or words"
    )
    drawn, table = [], []
    for readout in readouts:
        h = readout.headline
        assert h is not None
        name = f"{wording.READOUTS.get(readout.readout, readout.readout)}, {readout.reader} reader"
        drawn.append((name, h, [grade.value for grade in readout.decoys.values()]))
        decoys = max(readout.decoys.items(), key=lambda item: item[1].value, default=None)
        table.append(
            [
                name,
                wording.interval(h),
                f"{wording.number(h.null_median)} / {wording.number(h.null_95)}",
                f"{wording.number(decoys[1].value)} ({decoys[0]})" if decoys else "–",
                "yes" if h.readable else "no",
            ]
        )
    caption = (
        "Dot: largest value over the positions, with its 95 % bootstrap interval. Grey: the null, up to its 95th percentile "
        "(line) and with its median (thin line); each draw takes the same maximum over positions. "
    )
    if any(readout.decoys for readout in readouts):
        caption += "Short ticks: the same tokens graded against decoy subjects. "
    header = ["Readout", "Value [95 % interval]", "Null median / 95 %", "Highest decoy", "Beats its null"]
    label = f"{metric.capitalize()} of each readout with its null; the same numbers are in the table below"
    return Figure(charts.readability(drawn, label, unit), metric.capitalize(), caption if explain else "", Table(header, table))


def _headlines(readouts: Sequence[Readout]) -> Table:
    """All headline numbers, and positions 0-1 and later ones apart."""
    groups = list(dict.fromkeys(group for readout in readouts for group in readout.groups))
    header = ["Readout", "Reader", "Value [95 % interval]", "Null 95 %", "p", "At", "Verdict"]
    rows: list[list[str]] = []
    for readout in readouts:
        h = readout.headline
        assert h is not None
        row = [
            wording.short_name(readout.key),
            readout.reader,
            wording.interval(h),
            f"{wording.number(h.null_95)} (n = {h.null_n})",
            wording.p_value(h).removeprefix("p ").removeprefix("= "),
            f"position {h.position}",
            badge("readable", "good") if h.readable else badge("not readable", "quiet"),
        ]
        for group in groups:
            part = readout.groups.get(group)
            row.append(f"{wording.number(part.value)} / {wording.number(part.null_95)}" if part else "–")
        rows.append(row)
    return Table([*header, *(f"Positions {group} / null" for group in groups)], rows, numeric=2)


def _change(audit: Audit) -> Figure | None:
    """Leakage, behaviour and collateral of the finetuned model beside the base model's."""
    rows = [(_with_unit(one), one.finetuned, one.base, _change_of(one), one.n) for one in audit.behaviour]
    if (leakage := audit.leakage) is not None:
        name = "Leakage: share of subject words in unsteered text"
        difference = wording.signed(leakage.finetuned.value - leakage.base.value)
        rows.append((name, leakage.finetuned, leakage.base, difference, leakage.prompts))
    rows += [(_with_unit(one), one.finetuned, one.base, _change_of(one), one.n) for one in audit.collateral]
    if not rows:
        return None
    table = [
        [name, wording.interval(finetuned), wording.interval(base), change, wording.count(n)]
        for name, finetuned, base, change, n in rows
    ]
    drawn = [(name, finetuned, base) for name, finetuned, base, _, _ in rows]
    header = ["Metric", "Finetuned [95 % interval]", "Base", "Change", "n"]
    label = "Behaviour, leakage and collateral of the finetuned and the base model; the same numbers are in the table below"
    caption = "Solid: finetuned model. Hollow: base model. Lines: 95 % intervals. Each metric has its own axis."
    return Figure(charts.base_against_finetuned(drawn, label), "Against the base model", caption, Table(header, table))


def _with_unit(one: Comparison) -> str:
    unit = (one.unit or "").partition(";")[0]
    name = wording.metric_name(one.metric)
    return f"{name} ({unit})" if unit and unit.lower() not in name.lower() else name


def _change_of(one: Comparison) -> str:
    interval = one.change
    if "change: ratio" in (one.unit or ""):
        return f"× {wording.number(interval.value)} {wording.bounds(interval.low, interval.high)}"
    return f"{wording.signed(interval.value)} {wording.bounds(interval.low, interval.high)}"


def _difference(audit: Audit) -> Figure:
    difference = audit.difference
    header = ["Position", "L2 norm", "± standard error", "% of activation norm", "Cosine of two halves"]
    rows = [
        [
            f"{at.position}{' (attention sink)' if at.position == 0 else ''}",
            wording.number(at.norm),
            wording.number(at.standard_error),
            f"{100 * at.relative_norm:.1f}",
            f"{at.split_half_cosine:.2f}",
        ]
        for at in difference.positions
    ]
    caption = (
        f"Mean over {wording.count(difference.documents)} unrelated documents of finetuned minus base residual stream, after "
        f"block {difference.layer} of {difference.n_layers}. Whiskers: norm of the standard error. Position 0 is an attention "
        f"sink whose norm says nothing about the organism, so it stands apart. The norm is never used as readability."
    )
    label = "Norm of the difference at each token position; the same numbers are in the table below"
    return Figure(charts.difference_norms(difference, label), "The difference itself", caption, Table(header, rows))


@dataclass(frozen=True)
class Steered:
    """Samples of one reader, side by side.

    Attributes:
        reader: Whose text.
        position: The position that is shown first.
        strength: Its strength.
        table: Prompt, unsteered, steered, steered along a random direction.
        others: The same at the other positions.
    """

    reader: str
    position: int | None
    strength: float | None
    table: Table
    others: Sequence[tuple[str, Table]]


def _steered(readouts: Sequence[Readout], samples: Sequence[Sample], words: frozenset[str]) -> list[Steered]:
    result = []
    for reader in sorted({sample.reader for sample in samples}, key=lambda name: (name != "finetuned", name)):
        mine = [sample for sample in samples if sample.reader == reader]
        steered = [sample for sample in mine if sample.kind == "steered"]
        positions = sorted({sample.position for sample in steered if sample.position is not None})
        peaks = [r.headline for r in readouts if r.readout == "steering" and r.reader == reader and r.headline]
        best = peaks[0].position if peaks and peaks[0].position in positions else (positions[0] if positions else None)
        tables = {place: _side_by_side(mine, place, words) for place in positions}
        others = [
            (f"position {place}, strength {wording.number(_strength(steered, place))}", table)
            for place, table in tables.items()
            if place != best
        ]
        table = tables[best] if best is not None else _side_by_side(mine, None, words)
        result.append(Steered(reader, best, _strength(steered, best), table, others))
    return result


def _strength(samples: Sequence[Sample], position: int | None) -> float | None:
    return next((sample.strength for sample in samples if sample.position == position), None)


def _side_by_side(samples: Sequence[Sample], position: int | None, words: frozenset[str]) -> Table:
    texts: dict[tuple[str, str], list[Markup]] = defaultdict(list)
    for sample in samples:
        if sample.kind == "unsteered" or (sample.position == position and position is not None):
            grade = (
                badge(f"relevance {wording.number(sample.relevance)}", "quiet") if sample.relevance is not None else ""
            )
            texts[sample.prompt, sample.kind].append(
                Markup('<div class="sample">{}{}</div>').format(prose(sample.text, words), grade)
            )
    nothing = Markup('<span class="quiet">no sample</span>')
    rows = []
    for prompt in dict.fromkeys(prompt for prompt, _ in texts):
        cells = [Markup("").join(texts[prompt, kind][:1]) or nothing for kind in ("unsteered", "steered", "null")]
        rows.append([Markup("<bdi>{}</bdi>").format(safe(prompt)), *cells])
    return Table(
        ["Prompt", "Unsteered", "Steered by the difference", "Steered along a random direction"], rows, numeric=9
    )
