"""The report of a sweep: readability by mix ratio and training, next to behaviour and collateral."""

from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup

from audit.report import charts, collect, maps, panels, wording
from audit.report.answer import answer, behaviour_metric
from audit.report.charts import Series
from audit.report.collect import Cell
from audit.report.columns import AxisName
from audit.report.grid import Grid, make_grid
from audit.report.heatmap import HATCH
from audit.report.page import Figure, Table, badge, render, safe
from audit.report.panels import Curves
from audit.report.rows import Row, keys_of, metrics_of
from audit.report.schema import SCHEMA
from audit.report.seeds import band_note
from audit.report.tables import effects_table, readability_table, report_link, settings_of
from audit.report.wording import count
from storage.atomic import write_json, write_text


def write_sweep_report(sweep_dir: Path) -> Path:
    """Writes report.html and report.json into a sweep's folder.

    Args:
        sweep_dir: Holds manifest.jsonl and the runs' folders, or at least runs.

    Raises:
        AuditError: A file in it does not fit its schema.
    """
    sweep = collect.load_sweep(sweep_dir)
    grid = make_grid(sweep)
    keys = wording.order(keys_of(grid.rows))
    metric = behaviour_metric(metrics_of(grid.rows, "behaviour"))
    said = answer(grid, metric)
    name = sweep_dir.resolve().name
    write_json(
        sweep_dir / "report.json",
        {
            "schema": SCHEMA,
            "kind": "sweep",
            "sweep": name,
            "answer": said,
            "axis": grid.axis,
            "headlines": keys,
            "cells": [{"name": cell.name, "status": cell.status} for cell in sweep.cells],
            "rows": [row.to_json(sweep_dir) for row in grid.rows],
        },
    )
    with_numbers = [*grid.audited, *grid.controls]
    listed = sorted(grid.rows, key=lambda row: row.is_control)
    axes = _axes(grid)
    curves = [Curves(with_numbers, axis, grid.columns[axis]) for axis in axes]
    subjects = [row.audit.subject for row in grid.audited if row.audit]
    settings = settings_of([row.audit for row in with_numbers if row.audit])
    readings = sum(len(keys_of([row])) for row in grid.audited)
    page = render(
        "sweep.html",
        name=name,
        answer=said,
        subject=subjects[0] if subjects else None,
        grid=grid,
        axes=axes,
        hatch=HATCH,
        map_key=maps.key_of(grid, keys),
        maps=maps.heat_maps(grid, keys, axes),
        failed_cells=[cell for cell in sweep.cells if cell.status == "failed"],
        failed_audits=[row for row in grid.rows if row.state == "failed"],
        leaking=[row for row in grid.rows if row.leaks],
        readability_table=readability_table(listed, keys, sweep_dir) if keys else None,
        effects_table=effects_table(listed, sweep_dir),
        cells=_cells(sweep.cells),
        legend=_legend(curves[0], hollow=True, null=True),
        legend_frontier=_legend(curves[0], hollow=True, null=False),
        plain_legend=_legend(curves[0], hollow=False, null=False),
        curves=_curves(curves, keys),
        others=panels.other_figures(curves[0]),
        frontier=_frontier(curves[0], keys, metric) if metric else [],
        controls=_controls(grid, keys),
        band_note=band_note(with_numbers),
        settings_=settings,
        settings_differ=any(" | " in value for _, value in settings),
        several_seeds=len({row.seed for row in with_numbers}) > 1,
        readings=readings,
        chance=0.05 * readings,
    )
    report = sweep_dir / "report.html"
    write_text(report, page)
    return report


def _axes(grid: Grid) -> list[AxisName]:
    """The better filled axis, and the other one unless it puts the same checkpoints side by side."""
    other: AxisName = "step" if grid.axis == "exposure" else "exposure"
    rows = [row for row in grid.rows if row.audit]

    def partition(axis: AxisName) -> set[frozenset[int]]:
        columns = grid.columns[axis]
        return {frozenset(i for i, row in enumerate(rows) if column.holds(getattr(row, axis))) for column in columns}

    return [grid.axis] if partition(grid.axis) == partition(other) else [grid.axis, other]


def _cells(cells: Sequence[Cell]) -> Table:
    """Runs with links to their reports and their checkpoints'."""
    rows = []
    for cell in cells:
        links = []
        for one in cell.run.checkpoints if cell.run else ():
            if one.state in ("complete", "failed"):
                links.append(report_link(f"{cell.name}/{one.folder.name}/audit", count(one.step)))
            else:
                words = "unsealed, not audited" if one.state == "unsealed" else one.state
                links.append(safe(f"{count(one.step)} ({words})"))
        rows.append(
            [
                report_link(cell.name, cell.name) if cell.run else safe(cell.name),
                badge(cell.status, "bad" if cell.status == "failed" else "quiet"),
                Markup(", ").join(links) or safe("none yet"),
                safe(", ".join(f"{key}={value}" for key, value in cell.overrides.items())),
            ]
        )
    return Table(["Run", "Status", "Checkpoints (step)", "Overrides"], rows, numeric=4)


def _legend(curves: Curves, *, hollow: bool, null: bool) -> Markup:
    series = [Series(curves.label(name), look, (), quiet=name[2]) for look, name in enumerate(curves.names())]
    dots = "readable / does not beat both its null and the control"
    band = "null: lowest median to highest 95th percentile over the ratios"
    return charts.legend(series, null=band if null else "", hollow=dots if hollow else "")


def _curves(curves: Sequence[Curves], keys: Sequence[str]) -> list[tuple[str, list[Figure]]]:
    """For each readout its curves along each axis."""
    columns = [panels.readability_figures(one, keys) for one in curves]
    return [(key, [figures[index] for figures in columns]) for index, key in enumerate(keys)]


def _frontier(curves: Curves, keys: Sequence[str], metric: str) -> list[tuple[str, Figure]]:
    found = next(one for row in curves.rows if (one := row.behaviour(metric)) is not None)
    name = wording.metric_name(metric)
    x_label = f"{name} ({found.unit})" if found.unit else name
    return [
        (key, panels.frontier(curves, key, metric, x_label, panels.unit_of(curves.rows, key), wording.name_of(key)))
        for key in keys
    ]


def _controls(grid: Grid, keys: Sequence[str]) -> Table | None:
    """Which control each organism checkpoint was held against, and what came out."""
    if not grid.controls:
        return None
    rows = [
        [
            "?" if row.ratio is None else f"1 : {row.ratio:g}",
            f"{count(row.step)} / {count(row.exposure)}",
            _matched(row),
            f"{sum(_beats(row, key) for key in keys)} of {len(row.controls)}",
            str(sum(headline.readable for key in keys if (headline := row.headline(key)) is not None)),
            str(sum(row.readable(key) for key in keys)),
        ]
        for row in grid.audited
    ]
    header = ["Mix ratio", "Step / exposure", "Control", "Beat the control", "Beat their null", "Readable: beat both"]
    return Table(header, rows, numeric=3)


def _matched(row: Row) -> Markup:
    control = next(iter(row.controls.values()), None)
    if control is None:
        return badge("none matches", "warn")
    where = f"{control.cell}, step {count(control.step)}, exposure {count(control.exposure)}"
    return Markup("{}<small>same {}</small>").format(safe(where), control.matched_by)


def _beats(row: Row, key: str) -> bool:
    headline, control = row.headline(key), row.controls.get(key)
    return headline is not None and control is not None and headline.value > control.value
