"""The heat maps of a sweep, from its grid."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from audit.report import heatmap, svg, wording
from audit.report.columns import AxisName
from audit.report.grid import Grid
from audit.report.heatmap import HeatCell, HeatRow
from audit.report.page import Figure, Table
from audit.report.panels import AXIS_LABEL, column_label, unit_of
from audit.report.rows import Row
from audit.report.wording import DASH, number

Domain = tuple[float, float]


@dataclass(frozen=True)
class Map:
    """Heat maps of one readout.

    Attributes:
        main: Along the better filled axis.
        others: Along the other axis, if that differs.
        by_reader: Place when the finetuned reader comes first.
        by_readout: Place when the readers of a readout stand together.
        wide: Needs the whole width.
    """

    main: Figure
    others: Sequence[Figure]
    by_reader: int
    by_readout: int
    wide: bool


def heat_maps(grid: Grid, keys: Sequence[str], axes: Sequence[AxisName]) -> list[Map]:
    """A map for each readout.

    Args:
        grid: The sweep.
        keys: Readouts, finetuned reader first.
        axes: The better filled axis first.
    """
    by_readout = wording.order(keys, by="readout")
    domains = _domains(grid, keys)
    wide = heatmap.width_of(len(grid.columns[axes[0]])) > heatmap.HALF
    maps = []
    for place, key in enumerate(keys):
        figures = [_map(grid, key, axis, domains[unit_of(grid.rows, key)]) for axis in axes]
        maps.append(Map(figures[0], figures[1:], place, by_readout.index(key), wide))
    return maps


def key_of(grid: Grid, keys: Sequence[str]) -> Markup:
    """What the maps' colours and marks mean."""
    return heatmap.key(list(_domains(grid, keys).items()))


def _domains(grid: Grid, keys: Sequence[str]) -> dict[str, Domain]:
    """Colour scales: readouts of one unit share theirs."""
    units = [unit_of(grid.rows, key) for key in keys]
    domains = {}
    for unit in dict.fromkeys(units):
        alike = [key for key, other in zip(keys, units, strict=True) if other == unit]
        heads = [headline for row in grid.rows for key in alike if (headline := row.headline(key)) is not None]
        scale = svg.spanning([headline.value for headline in heads], 0, 1, zero=True, least=0.05)
        domains[unit] = (scale.low, scale.high)
    return domains


def _map(grid: Grid, key: str, axis: AxisName, domain: Domain) -> Figure:
    columns = grid.columns[axis]
    names = list(dict.fromkeys((row.group, row.is_control, row.ratio) for row in grid.rows))
    names.sort(key=lambda name: (name[1], name[0], -1.0 if name[2] is None else name[2]))
    drawn, table = [], []
    for group, is_control, ratio in names:
        mine = [row for row in grid.rows if (row.group, row.is_control, row.ratio) == (group, is_control, ratio)]
        cells = [_cell([row for row in mine if column.holds(getattr(row, axis))], key) for column in columns]
        share = next((row.share for row in mine if row.share is not None), None)
        detail = group or (f"share {share:.2f}" if share is not None else "")
        label = f"{'control ' if is_control else ''}{'?' if ratio is None else f'1 : {ratio:g}'}"
        drawn.append(HeatRow(label, detail, cells, is_control))
        name = f"{label}, {group}" if group else label
        table += [
            [name, column_label(column, axis), *_in_words(cell)] for column, cell in zip(columns, cells, strict=True)
        ]
    title = wording.name_of(key)
    drawing = heatmap.heat_map(
        drawn,
        [(column.label, column.detail) for column in columns],
        domain,
        AXIS_LABEL[axis],
        f"{title}, by mix ratio and {axis}; the same numbers are in the table below",
    )
    return Figure(drawing, title, "", Table(["Mix ratio", axis, "Value", "Null 95 %", "Control", "Verdict"], table))


def _cell(rows: Sequence[Row], key: str) -> HeatCell | str:
    heads = [(row, headline) for row in rows if (headline := row.headline(key)) is not None]
    if not heads:
        states = {row.state for row in rows}
        known = {
            "failed": "audit failed",
            "unsealed": "unsealed",
            "not audited": "not audited",
            "complete": "not measured",
        }
        return next((words for state, words in known.items() if state in states), "missing")
    controls = [row.controls[key].value for row, _ in heads if key in row.controls]
    return HeatCell(
        value=fmean(headline.value for _, headline in heads),
        null_95=fmean(headline.null_95 for _, headline in heads),
        control=max(controls) if controls else None,
        readable=sum(row.readable(key) for row, _ in heads),
        seeds=len(heads),
        leaks=sum(row.leaks for row, _ in heads),
        is_control=heads[0][0].is_control,
    )


def _in_words(cell: HeatCell | str) -> list[str]:
    if isinstance(cell, str):
        return [DASH, DASH, DASH, cell]
    verdict = "readable" if cell.established else "not established"
    if cell.seeds > 1:
        verdict = f"readable in {cell.readable} of {cell.seeds} seeds"
    leaks = ", leaks" if cell.leaks else ""
    return [number(cell.value), number(cell.null_95), number(cell.control), f"{verdict}{leaks}"]
