"""The report of one checkpoint: who reads what in it, on which evidence."""

from collections.abc import Sequence
from pathlib import Path

from audit.report import charts, collect, wording
from audit.report.page import Figure, Table, badge, render
from audit.report.samples import leakage_table, steered
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
        folder = audit_dir.resolve()
        name = folder.parent.name if folder.name == "audit" else folder.name
        page = render("failed.html", audit=audit, name=name, run_link=run_link)
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
        steered=steered(graded, samples, words),
        unsteered=leakage_table(samples, words),
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
                f"{wording.number(decoys[1].value)} ({decoys[0]})" if decoys else wording.DASH,
                "yes" if h.readable else "no",
            ]
        )
    caption = (
        "Dot: largest value over the positions, with its 95 % bootstrap interval. Grey: the null, up to its 95th "
        "percentile (line) and with its median (thin line); each draw takes the same maximum over positions. "
    )
    if any(readout.decoys for readout in readouts):
        caption += "Short ticks: the same tokens graded against decoy subjects. "
    header = ["Readout", "Value [95 % interval]", "Null median / 95 %", "Highest decoy", "Beats its null"]
    label = f"{metric.capitalize()} of each readout with its null; the same numbers are in the table below"
    return Figure(
        charts.readability(drawn, label, unit), metric.capitalize(), caption if explain else "", Table(header, table)
    )


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
            row.append(f"{wording.number(part.value)} / {wording.number(part.null_95)}" if part else wording.DASH)
        rows.append(row)
    return Table([*header, *(f"Positions {group} / null" for group in groups)], rows, numeric=2)


def _change(audit: Audit) -> Figure | None:
    """Leakage, behaviour and collateral of the finetuned model beside the base model's."""
    rows = [(_with_unit(one), one.finetuned, one.base, _change_of(one), one.n) for one in audit.behaviour]
    if (leakage := audit.leakage) is not None:
        name = "Leakage: share of subject words in unsteered text"
        change = wording.signed(leakage.finetuned.value - leakage.base.value)
        if leakage.change is not None:
            change = f"{change} {wording.bounds(leakage.change.low, leakage.change.high)}"
        rows.append((name, leakage.finetuned, leakage.base, change, leakage.prompts))
        if (mass := leakage.mass) is not None:
            name = "Leakage: probability of subject words in held-out text"
            rows.append((name, mass.finetuned, mass.base, _change_of(mass), mass.n))
    rows += [(_with_unit(one), one.finetuned, one.base, _change_of(one), one.n) for one in audit.collateral]
    if not rows:
        return None
    table = [
        [name, wording.interval(finetuned), wording.interval(base), change, wording.count(n)]
        for name, finetuned, base, change, n in rows
    ]
    drawn = [(name, finetuned, base) for name, finetuned, base, _, _ in rows]
    header = ["Metric", "Finetuned [95 % interval]", "Base", "Change", "n"]
    label = "Behaviour, leakage and collateral of both models; the same numbers are in the table below"
    caption = "Solid: finetuned model. Hollow: base model. Lines: 95 % intervals. Each metric has its own axis."
    return Figure(charts.base_against_finetuned(drawn, label), "Against the base model", caption, Table(header, table))


def _with_unit(one: Comparison) -> str:
    unit = (one.unit or "").partition(";")[0]
    name = wording.metric_name(one.metric)
    return f"{name} ({unit})" if unit and unit.lower() not in name.lower() else name


def _change_of(one: Comparison) -> str:
    interval = one.change
    if "change: ratio" in (one.unit or ""):
        return (
            f"\N{MULTIPLICATION SIGN} {wording.number(interval.value)} {wording.bounds(interval.low, interval.high)}"
        )
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
        f"Mean over {wording.count(difference.documents)} unrelated documents of finetuned minus base residual stream, "
        f"after block {difference.layer} of {difference.n_layers}. Whiskers: norm of the standard error. Position 0 is "
        f"an attention sink whose norm says nothing about the organism, so it stands apart. The norm is never used as "
        f"readability."
    )
    label = "Norm of the difference at each token position; the same numbers are in the table below"
    return Figure(charts.difference_norms(difference, label), "The difference itself", caption, Table(header, rows))
