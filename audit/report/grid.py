"""The sweep as a grid: what sets its cells apart, what is missing, and which control stands beside each row."""

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from audit.report.collect import Cell, Sweep
from audit.report.columns import AxisName, Column, Exposures, columns, filled
from audit.report.rows import ControlValue, MatchedBy, Row, facts_of, keys_of, rows_of_run

NOT_AN_AXIS = {"mix.ratio", "seed", "organism", "name", "output_dir", "recipe"}
UNFINISHED = {"failed": "the cell failed", "pending": "the cell has not started", "running": "not reached yet"}


@dataclass(frozen=True)
class Grid:
    """All rows of a sweep, its controls matched.

    Attributes:
        rows: Sorted by group, control, ratio, seed and step; with the missing ones.
        axis: The better filled axis.
        columns: Columns along each axis.
    """

    rows: tuple[Row, ...]
    axis: AxisName
    columns: dict[AxisName, list[Column]]

    @property
    def audited(self) -> list[Row]:
        """Rows of organisms with numbers."""
        return [row for row in self.rows if row.audit and not row.is_control]

    @property
    def controls(self) -> list[Row]:
        """Rows of controls with numbers."""
        return [row for row in self.rows if row.audit and row.is_control]

    @property
    def groups(self) -> list[str]:
        """Groups, in order."""
        return list(dict.fromkeys(row.group for row in self.rows))


def make_grid(sweep: Sweep) -> Grid:
    """Rows, groups, the better axis, missing rows and controls."""
    groups = _groups(sweep.cells)
    rows = [
        row
        for cell, group in zip(sweep.cells, groups, strict=True)
        if cell.run is not None
        for row in rows_of_run(cell.run, cell.name, group, cell.overrides)
    ]
    axes: tuple[AxisName, ...] = ("exposure", "step")
    axis = max(axes, key=lambda name: filled(rows, name))
    found = {name: columns(rows, name) for name in axes}
    exposures = Exposures(rows)
    complete = [dataclasses.replace(row, controls=_controls_of(row, rows, exposures)) for row in rows]
    for cell, group in zip(sweep.cells, groups, strict=True):
        own = [row for row in rows if row.cell == cell.name]
        complete += _missing(cell, group, own, found[axis], axis, len(sweep.cells))
    return Grid(tuple(sorted(complete, key=_place)), axis, found)


def _place(row: Row) -> tuple[object, ...]:
    at = (row.exposure if row.exposure is not None else -1, row.step if row.step is not None else -1)
    return (row.group, row.is_control, -1.0 if row.ratio is None else row.ratio, row.seed or 0, row.cell, at)


def _groups(cells: Sequence[Cell]) -> list[str]:
    """For each cell, what sets it apart besides ratio, seed and control; without audits it joins the majority."""
    identities: list[dict[str, str]] = []
    for cell in cells:
        own = {key: value for key, value in cell.overrides.items() if key not in NOT_AN_AXIS}
        if cell.run is not None and cell.run.audits:
            subject = cell.run.audits[0].subject
            own |= {"base_model": subject.base, "finetune": subject.kind}
            if name := subject.control_of or subject.organism:
                own["organism"] = name
        identities.append(own)
    usual = {
        part: Counter(own[part] for own in identities if part in own).most_common()
        for part in dict.fromkeys(part for own in identities for part in own)
    }
    vary = [part for part, values in usual.items() if len(values) > 1]
    return [", ".join(f"{part} {own.get(part, usual[part][0][0])}" for part in vary) for own in identities]


def _missing(
    cell: Cell, group: str, own: Sequence[Row], found: Sequence[Column], axis: AxisName, cells: int
) -> list[Row]:
    """Rows for the columns that a cell has no checkpoint in: all if it is unfinished, else those that most cells have."""
    reason = UNFINISHED.get(cell.status, f"no checkpoint at this {axis}")
    blank = Row(cell.name, group, **facts_of(cell), step=None, exposure=None, state="missing", reason=reason)
    if not found:
        return [] if own else [blank]
    expected = [column for column in found if cell.status in UNFINISHED or 2 * column.cells >= cells]
    absent = [column for column in expected if not any(column.holds(getattr(row, axis)) for row in own)]
    middle = [(column.low + column.high) // 2 for column in absent]
    if axis == "step":
        return [dataclasses.replace(blank, step=value) for value in middle]
    return [dataclasses.replace(blank, exposure=value) for value in middle]


def _controls_of(row: Row, rows: Sequence[Row], exposures: Exposures) -> dict[str, ControlValue]:
    """For each readout, the control at the same ratio and step, else at the same exposure; of several the largest."""
    if row.is_control or row.audit is None:
        return {}
    controls = [one for one in rows if one.is_control and one.audit and one.group == row.group]
    by: MatchedBy = "ratio and step"
    same = [one for one in controls if one.ratio == row.ratio and one.step == row.step]
    if not same:
        by = "exposure"
        same = [one for one in controls if exposures.equal(one, row)]
    found = {}
    for key in keys_of(same):
        values = [(headline, one) for one in same if (headline := one.headline(key)) is not None]
        headline, one = max(values, key=lambda pair: pair[0].value)
        assert one.step is not None
        found[key] = ControlValue(headline.value, headline.low, headline.high, one.cell, one.step, one.exposure, by)
    return found
