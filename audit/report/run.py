"""The report of one run: readability, behaviour and loss over its steps."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from audit.errors import AuditError
from audit.report import charts, collect, panels, wording
from audit.report.charts import Point, Series
from audit.report.collect import Run
from audit.report.columns import Column
from audit.report.page import Figure, Table, render
from audit.report.panels import Curves
from audit.report.rows import keys_of, rows_of_run
from audit.report.schema import SCHEMA, LogLine
from audit.report.seeds import band_note
from audit.report.tables import effects_table, readability_table, settings_of
from storage.atomic import write_json, write_text

MOST_POINTS = 240


def write_run_report(run_dir: Path) -> Path:
    """Writes report.html and report.json into a run's folder.

    Args:
        run_dir: Holds checkpoint-*/ and, as far as they exist, log.jsonl and mix.json.

    Raises:
        AuditError: It is not a run, or a file in it does not fit its schema.
    """
    if not collect.is_run(run_dir):
        raise AuditError(f"{run_dir} is not a run: it holds neither recipe.yaml nor a checkpoint")
    run = collect.load_run(run_dir)
    name = run_dir.resolve().name
    rows = rows_of_run(run, name)
    keys = wording.order(keys_of(rows))
    write_json(
        run_dir / "report.json",
        {
            "schema": SCHEMA,
            "kind": "run",
            "run": name,
            "headlines": keys,
            "rows": [row.to_json(run_dir) for row in rows],
        },
    )
    audited = [row for row in rows if row.audit]
    columns = [Column(row.step, row.step) for row in rows if row.step is not None]
    curves = Curves(audited, "step", columns, title="this run")
    in_sweep = (run_dir.resolve().parent / "manifest.jsonl").is_file()
    last = run.audits[-1] if run.audits else None
    page = render(
        "run.html",
        name=name,
        run=run,
        last=last,
        subject=last.subject if last else None,
        rows=rows,
        sweep_link="../report.html" if in_sweep else None,
        leaking=[row for row in audited if row.leaks],
        failed=[row for row in rows if row.state == "failed"],
        readability_table=readability_table(rows, keys, run_dir) if keys else None,
        effects_table=effects_table(rows, run_dir),
        legend=charts.legend(
            (), null="null: from its median to its 95th percentile", hollow="beats its null / does not"
        ),
        readability=panels.readability_figures(curves, keys),
        others=panels.other_figures(curves),
        band_note=band_note(audited),
        loss=_loss(run.log),
        mix=_mix(run),
        settings_=settings_of(run.audits),
    )
    report = run_dir / "report.html"
    write_text(report, page)
    return report


def _loss(log: Sequence[LogLine]) -> Figure | None:
    """Training loss over steps, by source, in at most `MOST_POINTS` points."""
    if not log:
        return None
    size = -(-len(log) // MOST_POINTS)
    bins = [log[start : start + size] for start in range(0, len(log), size)]
    drawn: list[Series] = []
    quartiles = []
    for look, (name, attribute) in enumerate(
        (
            ("organism", "loss_organism"),
            ("pretraining", "loss_pretraining"),
            ("control", "loss_control"),
            ("all", "loss"),
        )
    ):
        points = []
        for lines in bins:
            values = [value for one in lines if (value := getattr(one, attribute)) is not None]
            if values:
                y = fmean(values)
                points.append(Point(fmean(one.step for one in lines), y, y, y))
        if points and not (name == "all" and len(drawn) == 1):
            drawn.append(Series(name, look, points, quiet=name == "all"))
            chosen = sorted({round(i * (len(points) - 1) / 4) for i in range(5)})
            quartiles += [[name, wording.count(round(points[i].x)), wording.number(points[i].y)] for i in chosen]
    svg = charts.curves(
        drawn,
        label="Training loss over steps; excerpts are in the table below",
        x_label="optimizer step",
        y_label="nats per loss token",
        show_x=lambda value: wording.count(round(value)),
        zero=False,
        across="steps",
        width=1036,
    )
    note = f" Each point is the mean of {size} steps." if size > 1 else ""
    caption = f"Mean loss of each optimizer step, by the source of its text.{note} The whole log is log.jsonl."
    table = Table(["Source", "Step", "Loss"], quartiles)
    return Figure(svg, "Training loss", caption, table, legend=charts.legend(drawn))


def _mix(run: Run) -> Table | None:
    if run.ledger is None:
        return None
    rows = [
        [name, wording.count(one.documents), *map(wording.count, (one.rows, one.tokens, one.loss_tokens))]
        for name, one in run.ledger.sources.items()
    ]
    return Table(["Source", "Documents", "Rows", "Tokens", "Loss tokens"], rows)
